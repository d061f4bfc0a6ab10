"""SIGTERM and Ctrl-C, from the first moment on: none is lost, and none ends the process half-way.

Until somebody listens they wait in the kernel. As process 1 of a container Python would not even
hear them, and elsewhere it would end without having logged out of vSphere.
"""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = signal.SIGTERM, signal.SIGINT


def hold() -> None:
    """Let them wait until somebody listens. What no one takes is as nothing."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    for signum in _ENDING:
        signal.signal(signum, _ignored)


async def listen() -> None:
    """Let them through to whoever has set a handler, until cancelled."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    try:
        await asyncio.Event().wait()
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)


@contextmanager
def heard(end: Callable[[], object]) -> Iterator[None]:
    """Call `end`, between two steps of whatever runs, for each that comes meanwhile."""
    before = {signum: signal.signal(signum, lambda *_: end()) for signum in _ENDING}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _ignored(_: int, __: FrameType | None) -> None:
    """Not SIG_IGN, which a program that is started from here would inherit."""
