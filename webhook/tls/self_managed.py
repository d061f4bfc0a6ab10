"""A certificate that needs nobody: a CA of the guard's own in a Secret that its replicas share."""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from cryptography import x509

from webhook.errors import CertificateInvalid
from webhook.tls.authority import Authority, foreign, fresh, parse, renewed, rotated
from webhook.tls.served import Served

_log = logging.getLogger("webhook.tls")

_RACES = 5  # lost in a row: then it isn't a race


class Store(Protocol):
    """The Secret, and the webhooks that must trust what is in it; plugged in by the command line.

    All raise ClusterUnreachable.
    """

    async def read(self) -> Mapping[str, bytes] | None:
        """The Secret's data; None where there is no Secret."""

    async def write(self, data: Mapping[str, bytes]) -> None:
        """Replace what was read last, unless somebody else was quicker: read again to know."""

    async def trust(self, bundle: bytes) -> bool:
        """Give every webhook this caBundle; False if one had another, so that it was written."""


class SelfManaged:
    """Keeps the Secret, the caBundles and the served pair right, one `look` after the other.

    Looks must be some seconds apart: what one has found trusted everywhere, the next takes for
    known to every API server.
    """

    def __init__(self, served: Served, names: Sequence[str], now: Callable[[], datetime]) -> None:
        self._served, self._names, self._now = served, names, now
        self._last: Authority | None = None
        self._settled: bytes | None = None
        self._serving: x509.Certificate | None = None

    async def look(self, store: Store) -> None:
        """Mend what is wrong or due. Raises ClusterUnreachable or CertificateInvalid."""
        held = self._last = await self._agree(store)
        if not self._served.good or self._serving == held.issuer:
            self._serve(held)  # as well trusted as what is served now
        trusted = await store.trust(held.bundle)
        self._settled = held.bundle if trusted else None
        if trusted:
            self._serve(held)

    def _serve(self, held: Authority) -> None:
        self._served.load(*held.served)
        self._serving = held.issuer

    async def _agree(self, store: Store) -> Authority:
        """The Secret's content, once it is as it should be: whoever writes first wins."""
        for _ in range(_RACES):
            data = await store.read()
            wanted = self._wanted(data)
            if data is not None and wanted.data().items() <= data.items():
                return wanted
            await store.write(wanted.data())
        raise CertificateInvalid("tls.secret: others change the Secret again and again")

    def _wanted(self, data: Mapping[str, bytes] | None) -> Authority:
        now = self._now()
        if data is None:
            # Who deletes it wants new keys; calls must go on meanwhile.
            held = rotated(self._last, now) if self._last else fresh(self._names, now)
        else:
            held = self._parsed(data, now)
        return renewed(held, self._names, now, settled=held.bundle == self._settled)

    def _parsed(self, data: Mapping[str, bytes], now: datetime) -> Authority:
        try:
            return parse(data)
        except CertificateInvalid as error:
            if foreign(data):
                raise CertificateInvalid(
                    "tls.secret: the Secret holds a certificate that is not the guard's own: "
                    "delete it, name another in tls.secret, or set tls.source: files"
                ) from None
            if data:
                _log.warning("the Secret is written anew: it %s", error)
            return self._last or fresh(self._names, now)
