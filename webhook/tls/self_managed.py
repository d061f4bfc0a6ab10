"""A certificate that needs nobody: a CA of the guard's own in a Secret that its replicas share."""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from cryptography import x509

from webhook.errors import CertificateInvalid, ClusterUnreachable
from webhook.tls.authority import (
    Authority,
    foreign,
    fresh,
    keeping,
    ours,
    parse,
    renewed,
    rotated,
)
from webhook.tls.issuing import pem
from webhook.tls.served import Served

_log = logging.getLogger("webhook.tls")

_RACES = 5  # lost in a row: then it isn't a race
_LOOKS = 6
"""That long a webhook is left a CA which the Secret no longer names: half a minute."""
_FIRST_LOOKS = 10
"""So many a start waits for at most until the webhooks trust it."""


class TrustStore(Protocol):
    """The Secret, and the webhooks that must trust what is in it; plugged in by the command line.

    All raise ClusterUnreachable.
    """

    async def read(self) -> Mapping[str, bytes] | None:
        """The Secret's data; None where there is no Secret."""

    async def write(self, data: Mapping[str, bytes]) -> None:
        """Replace what was read last, unless somebody else was quicker: read again to know."""

    async def bundles(self) -> Sequence[bytes]:
        """The caBundle of each webhook; none where nothing calls the guard."""

    async def trust(self, wanted: Callable[[bytes], bytes]) -> None:
        """Give each webhook the caBundle that is `wanted` in the place of its own."""


class _Trust:
    """What the webhooks trusted when they were read; `bundles` is None where they couldn't be."""

    def __init__(self, bundles: Sequence[bytes] | None = None) -> None:
        self.known = bundles is not None
        self._bundles = [ours(bundle) for bundle in bundles or ()]

    def __contains__(self, ca: x509.Certificate) -> bool:
        """Whether every one of them trusts it."""
        return self.known and all(ca in bundle for bundle in self._bundles)

    @property
    def any(self) -> Sequence[x509.Certificate]:
        """Those that some webhook trusts."""
        return tuple(dict.fromkeys(ca for bundle in self._bundles for ca in bundle))


class SelfManaged:
    """Keeps the Secret, the caBundles and the served pair right, one `look` after the other.

    Looks must be some seconds apart: what one has found trusted everywhere, the next takes for
    known to every API server.
    """

    def __init__(self, served: Served, names: Sequence[str], now: Callable[[], datetime]) -> None:
        self._served, self._names, self._now = served, names, now
        self._last: Authority | None = None
        self._serving: x509.Certificate | None = None
        self._trust = self._before = _Trust()
        """What this look has found, and the one before it."""
        self._unnamed: dict[x509.Certificate, int] = {}
        """CAs that webhooks trust and the Secret doesn't name: for how many looks."""
        self._looks = 0

    @property
    def ready(self) -> bool:
        """Whether what is served is trusted, as far as can be known: a start waits for it."""
        if not self._served.good:
            return False
        trusted = self._serving is not None and self._serving in self._trust
        return trusted or not self._trust.known or self._looks >= _FIRST_LOOKS

    async def look(self, store: TrustStore) -> None:
        """Mend what is wrong or due. Raises ClusterUnreachable or CertificateInvalid."""
        self._looks += 1
        unreadable: ClusterUnreachable | None = None
        try:
            bundles = await store.bundles()
        except ClusterUnreachable as error:
            bundles, unreadable = None, error
        self._before, self._trust = self._trust, _Trust(bundles)
        held = self._last = await self._agree(store)
        as_well_trusted = self._serving == held.issuer
        if as_well_trusted or self._settled(held.issuer) or not self._served.good:
            self._served.load(*held.served)
            self._serving = held.issuer
        if unreadable is not None:
            raise unreadable
        left = self._left_to_webhooks(held)
        await store.trust(lambda there: pem((*held.cas, *(ca for ca in ours(there) if ca in left))))

    def _settled(self, ca: x509.Certificate) -> bool:
        return ca in self._trust and ca in self._before

    def _left_to_webhooks(self, held: Authority) -> set[x509.Certificate]:
        """The CAs that the Secret doesn't name, but that were there too recently to be taken away:
        a replica may serve by one, and be about to say so."""
        unnamed = [ca for ca in self._trust.any if ca not in held.cas]
        self._unnamed = {ca: self._unnamed.get(ca, 0) + 1 for ca in unnamed}
        return {ca for ca, looks in self._unnamed.items() if looks <= _LOOKS}

    async def _agree(self, store: TrustStore) -> Authority:
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
            held = rotated(self._last, now) if self._last else self._first(now)
        else:
            held = self._parsed(data, now)
        if self._serving is not None and self._served.good:
            held = keeping(held, self._serving)
        return renewed(held, self._names, now, settled=self._settled(held.cas[0]))

    def _first(self, now: datetime) -> Authority:
        return fresh(self._names, now, self._trust.any)

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
                _log.warning("the Secret is written again: it %s", error)
            return self._last or self._first(now)
