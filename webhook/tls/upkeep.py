"""Looking after the certificate, for as long as the process lives."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from webhook.errors import GuardError

_log = logging.getLogger("webhook.tls")

EVERY = 5.0
"""Seconds between two looks: what somebody else has spoilt is mended after as long."""
_PATIENCE = 20.0


async def keep(
    look: Callable[[], Awaitable[None]],
    failed: Callable[[], None],
    *,
    until: Callable[[], bool] = lambda: False,
    every: float = EVERY,
    what: str = "the certificate",
) -> None:
    """Look, and again each `every` seconds, `until`. `failed` is called for each look that fails;
    the log tells once."""
    told = ""
    while True:
        trouble = ""
        try:
            async with asyncio.timeout(_PATIENCE):
                await look()
        except GuardError as error:
            trouble = str(error)
        except TimeoutError:
            trouble = f"it has taken longer than {_PATIENCE:.0f} s"
        except Exception as error:  # noqa: BLE001  without it the certificate would expire unseen
            _log.exception("the upkeep of %s failed", what)
            trouble = type(error).__name__
        if trouble:
            failed()
        if trouble and trouble != told:
            _log.error("the upkeep of %s fails: %s", what, trouble)
        elif told and not trouble:
            _log.info("the upkeep of %s works again", what)
        told = trouble
        if until():
            return
        await asyncio.sleep(every)
