"""A TCP proxy that fails in the ways that networks do."""

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

Mood = Literal["pass", "hole", "cut"]


class Proxy:
    """Forwards 127.0.0.1:`port` to `target`, as its mood says.

    pass: everything. hole: connections are accepted, and no byte goes either way. cut: after as
    many bytes of answers as the next of `budgets` says, their connection ends. `trickle`: bytes at
    a time. `delay`: seconds that each of these takes on its way.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self.mood: Mood = "pass"
        self.budgets: Iterator[int] = itertools.repeat(0)
        self.cuts = 0
        self.trickle = 2**16
        self.delay = 0.0
        self.connections = 0
        self.answered = 0
        """Bytes that went from the target to its clients."""
        self._left: int | None = None
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port: int = self._listener.getsockname()[1]

    def cut_all(self) -> None:
        """End every connection there is."""
        with self._lock:
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._target), 60)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open |= {client, server}
        back = threading.Thread(target=self._pump, args=(server, client, True), daemon=True)
        back.start()
        self._pump(client, server, False)
        back.join()
        with self._lock:
            self._open -= {client, server}
        client.close()
        server.close()

    def _spent(self, count: int) -> bool:
        with self._lock:
            left = next(self.budgets) if self._left is None else self._left
            self._left = left - count if left >= count else None
            self.cuts += self._left is None
            return self._left is None

    def _pump(self, source: socket.socket, sink: socket.socket, answer: bool) -> None:
        with suppress(OSError):
            while data := source.recv(self.trickle):
                if self.mood == "hole":
                    continue
                time.sleep(self.delay)
                if answer:
                    self.answered += len(data)
                    if self.mood == "cut" and self._spent(len(data)):
                        break
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy(target: int) -> Iterator[Proxy]:
    """A running Proxy in front of a loopback port."""
    made = Proxy(target)
    accepting = threading.Thread(target=made._accept, daemon=True)
    accepting.start()
    try:
        yield made
    finally:
        # A blocked accept() keeps a closed listener alive: wake it first.
        with suppress(OSError):
            made._listener.shutdown(socket.SHUT_RDWR)
        made._listener.close()
        made.cut_all()
        accepting.join()
