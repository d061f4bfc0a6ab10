"""The real server as a process of its own, on free loopback ports, with a real certificate."""

import os
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec

from tests.command import COMMAND
from webhook import tls

_API = re.compile(r"the API listens on https://127\.0\.0\.1:(\d+)")
_LISTENING = re.compile(r"listening on https://127\.0\.0\.1:(\d+), metrics on port :(\d+)")


@dataclass
class Guard:
    """A running `conversion-guard serve`."""

    process: "subprocess.Popen[str]"
    ca_file: Path
    lines: list[str] = field(default_factory=list)
    port: int = 0
    metrics_port: int = 0
    api_port: int = 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def api_url(self) -> str:
        """Where the settings enable it."""
        return f"https://127.0.0.1:{self.api_port}"

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def told(self, what: str) -> list[str]:
        """The lines of its log that have `what` in them; they come a moment after the answer."""
        return [line for line in self.log.splitlines() if what in line]

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca_file))

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, verify=self.tls(), timeout=30)

    def metrics(self) -> str:
        """What a scrape gets."""
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        # To read the CAs of the system would take longer than all the rest.
        return httpx.get(url, verify=False, timeout=60).text  # noqa: S501  plain HTTP

    def reviews(self, kind: str = "") -> int:
        """How many reviews it has answered, from its metrics: of one kind, or all."""
        found = re.findall(
            r'^conversion_guard_reviews_total\{.*kind="(\w*)".*\} (\S+)$', self.metrics(), re.M
        )
        return sum(int(float(count)) for name, count in found if kind in ("", name))

    @contextmanager
    def connected(self) -> Iterator[ssl.SSLSocket]:
        """A connection to its first listener; whoever waits on it waits a minute at most."""
        with (
            socket.create_connection(("127.0.0.1", self.port), 60) as plain,
            self.tls().wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            yield secure

    def peak_memory(self) -> int:
        """The most that was ever resident, in bytes."""
        return self._status("VmHWM") * 1024

    def memory(self) -> int:
        """What is resident now, in bytes."""
        return self._status("VmRSS") * 1024

    def threads(self) -> int:
        """How many there are now."""
        return self._status("Threads")

    def _status(self, name: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(rf"^{name}:\s+(\d+)", status, re.M)[0])

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.terminate()
        return self.process.wait(60)


@contextmanager
def running(
    folder: Path,
    settings: dict[str, Any],
    program: Sequence[str] = COMMAND,
) -> Iterator[Guard]:
    """`serve` with `settings` laid over loopback ports and a certificate made in `folder`."""
    tls.write(tls.issue(["localhost", "127.0.0.1"], datetime.now(UTC)), folder)
    everything = {
        "listen": "127.0.0.1:0",
        "metricsListen": "127.0.0.1:0",
        "shutdownDelay": 0,
        "tls": {
            "source": "files",
            "certFile": str(folder / "tls.crt"),
            "keyFile": str(folder / "tls.key"),
        },
        **settings,
    }
    file = folder / "settings.yaml"
    file.write_bytes(msgspec.yaml.encode(everything))
    process = subprocess.Popen(
        [*program, "serve", "--settings", str(file)],
        stderr=subprocess.PIPE,
        text=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("CONVERSION_GUARD_")},
    )
    guard = Guard(process, folder / "ca.crt")
    reader: threading.Thread | None = None
    with process:
        try:
            reader = _follow(guard)
            yield guard
        except Exception as error:
            error.add_note(f"The end of the guard's log:\n{guard.log[-5000:]}")
            raise
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
            if reader is not None:
                reader.join()


def _follow(guard: Guard) -> threading.Thread:
    """Read until the server listens, then go on in a thread, so that its pipe never fills."""
    stream = guard.process.stderr
    assert stream is not None
    for line in stream:
        guard.lines.append(line)
        if match := _API.search(line):
            guard.api_port = int(match[1])
        if match := _LISTENING.search(line):
            guard.port, guard.metrics_port = int(match[1]), int(match[2])
            break
    else:
        raise AssertionError(f"the server did not start:\n{guard.log}")
    thread = threading.Thread(target=lambda: guard.lines.extend(stream))
    thread.start()
    return thread
