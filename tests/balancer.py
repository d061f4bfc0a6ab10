"""A TCP balancer that stands for the Service: what kubelet and kube-proxy do, in one place.

kubelet asks each replica for /readyz, as often as the shipped Deployment says, and sees at once
when its process has ended (`remove`). kube-proxy gives each new connection to the next replica that
is ready, whether or not that one takes it, and leaves it there, whatever becomes of its readiness.
"""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Self

import msgspec

from tests.e2e.world import MANIFESTS

_LOOPBACK = "127.0.0.1"
UNVERIFIED = ssl.create_default_context()
UNVERIFIED.check_hostname = False
UNVERIFIED.verify_mode = ssl.CERT_NONE
"""As kubelet's probes are."""


class Probe(msgspec.Struct, rename="camel"):
    """A readiness probe, in seconds."""

    period_seconds: float
    timeout_seconds: float
    failure_threshold: int

    @classmethod
    def shipped(cls) -> Self:
        """The Deployment's."""
        text = (MANIFESTS / "base" / "deployment.yaml").read_bytes()
        (container,) = msgspec.yaml.decode(text)["spec"]["template"]["spec"]["containers"]
        return msgspec.convert(container["readinessProbe"], cls)


class Balancer:
    """Listens on 127.0.0.1:`port` while it runs, and knows its replicas by their ports."""

    port = 0

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._loop = asyncio.new_event_loop()
        self._probing: dict[int, asyncio.Task[None]] = {}
        self._ready: list[int] = []
        """The next one first."""
        self._open: dict[int, int] = {}

    @property
    def ready(self) -> frozenset[int]:
        """The replicas that new connections go to."""
        return frozenset(self._ready)

    def connections(self, replica: int) -> int:
        """How many it has with this replica."""
        return self._open.get(replica, 0)

    def add(self, replica: int) -> None:
        """A new one, which gets connections from its first good answer on."""
        self._do(self._begin(replica))

    def remove(self, replica: int) -> None:
        """Its process has ended."""
        self._do(self._end(replica))

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    async def _begin(self, replica: int) -> None:
        self._probing[replica] = asyncio.create_task(self._look_after(replica))

    async def _end(self, replica: int) -> None:
        self._take_out(replica)
        task = self._probing.pop(replica)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def _take_out(self, replica: int) -> None:
        if replica in self._ready:
            self._ready.remove(replica)

    async def _look_after(self, replica: int) -> None:
        failures = 0
        while True:
            try:
                # Not wait_for: before Python 3.12 it loses a cancellation that meets the answer.
                async with asyncio.timeout(self._probe.timeout_seconds):
                    good = await _answers(replica)
            except (OSError, TimeoutError):
                good = False
            failures = 0 if good else failures + 1
            if good and replica not in self._ready:
                self._ready.append(replica)
            elif failures >= self._probe.failure_threshold:
                self._take_out(replica)
            await asyncio.sleep(self._probe.period_seconds)

    async def _serve(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        if not self._ready:
            answer.transport.abort()
            return
        replica = self._ready.pop(0)
        self._ready.append(replica)
        try:
            server, request = await asyncio.open_connection(_LOOPBACK, replica)
        except OSError:
            answer.transport.abort()
            return
        self._open[replica] = self.connections(replica) + 1
        ways = [
            asyncio.create_task(_pump(client, request)),
            asyncio.create_task(_pump(server, answer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            request.close()
            answer.close()
            self._open[replica] -= 1

    async def _run(self, listening: threading.Event, stop: asyncio.Event) -> None:
        server = await asyncio.start_server(self._serve, _LOOPBACK, 0, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        listening.set()
        await stop.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


@contextmanager
def balancing(probe: Probe) -> Iterator[Balancer]:
    """A running Balancer, in a thread of its own."""
    made, listening, stop = Balancer(probe), threading.Event(), asyncio.Event()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: made._loop) as runner:
            runner.run(made._run(listening, stop))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert listening.wait(10), "the balancer listens"
        yield made
    finally:
        made._loop.call_soon_threadsafe(stop.set)
        thread.join()


async def _answers(replica: int) -> bool:
    """Whether /readyz answers 200, on a connection of its own, as kubelet's probes are."""
    reader, writer = await asyncio.open_connection(_LOOPBACK, replica, ssl=UNVERIFIED)
    try:
        writer.write(b"GET /readyz HTTP/1.1\r\nhost: probe\r\nconnection: close\r\n\r\n")
        status = await reader.readline()
    finally:
        writer.transport.abort()
    return b" 200 " in status


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(2**16):
            sink.write(data)
            await sink.drain()
