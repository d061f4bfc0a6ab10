"""How what comes is read: into one room that all connections share."""

import asyncio

from webhook.server import bodies
from webhook.server.connection import Connection

_RECEIVED = memoryview(bytearray(bodies.SMALL))
"""Where what comes is put, of whichever connection: it is taken out before any other's comes."""


class Buffered(asyncio.BufferedProtocol):
    """Hands a Connection what comes. uvloop would make 256 KiB of room anew for each read, and give
    it back to the system: two calls of the system, and as many pages to be filled with zeros."""

    def __init__(self, connection: Connection) -> None:
        self._data_received = connection.data_received
        self._lost = connection.connection_lost
        for heard in ("connection_made", "eof_received"):
            setattr(self, heard, getattr(connection, heard))
        self.pause_writing = connection.pause_writing  # type: ignore[method-assign]
        self.resume_writing = connection.resume_writing  # type: ignore[method-assign]

    def connection_lost(self, exc: Exception | None) -> None:
        """uvloop's transport keeps this object for good, and the connection keeps the transport.
        Let go, they are freed at once: the collector comes late, and OpenSSL's memory with it."""
        lost = self._lost
        vars(self).clear()
        self._data_received = _ignore
        lost(exc)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _RECEIVED

    def buffer_updated(self, nbytes: int) -> None:
        self._data_received(_RECEIVED[:nbytes].tobytes())


def _ignore(data: bytes) -> None:
    """Nothing comes any more."""
