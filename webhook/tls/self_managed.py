"""A certificate that needs nobody: a CA of the guard's own in a Secret that its replicas share.

In the same Secret is the path that the API server calls (webhook.tls.paths), and one look keeps
both right.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from cryptography import x509

from webhook.errors import CertificateInvalid, ClusterUnreachable
from webhook.model.calls import Hook
from webhook.tls import paths
from webhook.tls.authority import (
    Authority,
    due,
    foreign,
    fresh,
    keeping,
    of_secret,
    ours,
    renewed,
    rotated,
)
from webhook.tls.issuing import pem
from webhook.tls.path_proof import PathProof
from webhook.tls.paths import Paths
from webhook.tls.served import Served

_log = logging.getLogger("webhook.tls")

_RACES = 5  # lost in a row: then it isn't a race
_LOOKS = 6
"""That long a webhook is left a CA which the Secret no longer names: half a minute."""
_FIRST_LOOKS = 10
"""So many a start waits for at most until the webhooks trust it."""
_SURELY = 4
"""After so many looks of one replica at a path in the Secret, the others have seen it, too."""


class TrustStore(Protocol):
    """The Secret, and the webhooks that must trust what is in it; plugged in by webhook.runtime.

    All raise ClusterUnreachable.
    """

    async def read(self) -> Mapping[str, bytes] | None:
        """The Secret's data; None where there is no Secret."""

    async def write(self, data: Mapping[str, bytes]) -> None:
        """Replace what was read last, unless somebody else was quicker: read again to know."""

    async def hooks(self) -> Sequence[Hook]:
        """Each webhook; none where nothing calls the guard."""

    async def mend(self, wanted: Callable[[Hook], Hook]) -> None:
        """Make each webhook what is `wanted` in its place; its `end` is never None then."""


class _Trust:
    """What the webhooks trusted and called when they were read; `hooks` is None where they couldn't
    be."""

    def __init__(self, hooks: Sequence[Hook] | None = None) -> None:
        self.known = hooks is not None
        self._bundles = [ours(hook.bundle) for hook in hooks or ()]
        self._ends = {hook.end for hook in hooks or ()}

    def __contains__(self, ca: x509.Certificate) -> bool:
        """Whether every one of them trusts it."""
        return self.known and all(ca in bundle for bundle in self._bundles)

    def calls(self, end: str) -> bool:
        """Whether every one of them calls the path with this end."""
        return self.known and self._ends <= {end}

    @property
    def any(self) -> Sequence[x509.Certificate]:
        """Those that some webhook trusts."""
        return tuple(dict.fromkeys(ca for bundle in self._bundles for ca in bundle))


class SelfManaged:
    """Keeps the Secret, the webhooks and the served pair right, one `look` after the other.

    Looks must be some seconds apart: what one has found trusted everywhere, the next takes for
    known to every API server (or the same one does, where the certificate served is due). With
    `proof` the webhooks get an unguessable path, and it is told which ones count; without, they get
    the plain one.
    """

    def __init__(
        self,
        served: Served,
        names: Sequence[str],
        now: Callable[[], datetime],
        proof: PathProof | None = None,
    ) -> None:
        self._served, self._names, self._now = served, names, now
        self._proof = proof
        self._paths: Paths | None = None
        """As the Secret had them last."""
        self._worn: frozenset[str] | None = None
        """Those that were there at the start: an error may have shown them while nobody answered.
        None before the first look."""
        self._seen = 0
        """In how many looks the new one has been in the Secret."""
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
            hooks = await store.hooks()
        except ClusterUnreachable as error:
            hooks, unreadable = None, error
        self._before, self._trust = self._trust, _Trust(hooks)
        held, called = await self._agree(store)
        self._last = held
        self._take(called)
        as_well_trusted = self._serving == held.issuer
        until = self._served.not_after
        if as_well_trusted or not self._served.good or self._settled(held.issuer, until):
            self._served.load(*held.served)
            self._serving = held.issuer
        if unreadable is not None:
            raise unreadable
        left = self._left_to_webhooks(held)

        def wanted(there: Hook) -> Hook:
            cas = (*held.cas, *(ca for ca in ours(there.bundle) if ca in left))
            return Hook(pem(cas), self._end(there.end))

        await store.mend(wanted)

    def _take(self, called: Paths | None) -> None:
        """Let callers be proven by what the Secret has."""
        if self._proof is None or called is None:
            return
        if self._paths is None or called.new != self._paths.new:
            self._seen = 0
            _log.info(
                "the path of the webhooks is a new one, made at %s", f"{called.made:%H:%M:%S}Z"
            )
        self._seen += 1
        self._paths = called
        self._proof.count(called.counting)

    def _end(self, there: str | None) -> str:
        """What a webhook should have that has this one: a new one once every replica knows it, or
        where calls are not proven anyway."""
        if self._paths is None:
            return ""
        return self._paths.new if not there or self._seen >= _SURELY else there

    def _settled(self, ca: x509.Certificate, until: datetime | None) -> bool:
        """Whether a leaf of `ca` may take over from one that ends at `until`.

        By now every API server must know `ca`: it was trusted at the last look, too. Where that end
        is near, the next look may come too late, and once must do.
        """
        known = ca in self._before or (until is not None and due(until, self._now()))
        return ca in self._trust and known

    def _left_to_webhooks(self, held: Authority) -> set[x509.Certificate]:
        """The CAs that the Secret doesn't name, but that were there too recently to be taken away:
        a replica may serve by one, and be about to say so."""
        unnamed = [ca for ca in self._trust.any if ca not in held.cas]
        self._unnamed = {ca: self._unnamed.get(ca, 0) + 1 for ca in unnamed}
        return {ca for ca, looks in self._unnamed.items() if looks <= _LOOKS}

    async def _agree(self, store: TrustStore) -> tuple[Authority, Paths | None]:
        """The Secret's content, once it is as it should be: whoever writes first wins."""
        for _ in range(_RACES):
            data = await store.read()
            wanted, called = self._wanted(data), self._called(data or {})
            content = wanted.data() | (called.data() if called else {})
            if data is not None and content.items() <= data.items():
                return wanted, called
            await store.write(content)
        raise CertificateInvalid("tls.secret: others change the Secret again and again")

    def _wanted(self, data: Mapping[str, bytes] | None) -> Authority:
        now = self._now()
        held = self._parsed(data, now) if data is not None else self._last or self._first(now)
        newest = held.cas[0]
        settled = self._settled(newest, held.leaf.certificate.not_valid_after_utc)
        held = renewed(held, self._names, now, settled=settled)
        if data is None and self._last is not None and held.cas[0] == newest:
            # Who deletes it wants new keys; calls must go on meanwhile.
            held = rotated(held, now)
        if self._serving is not None and self._served.good:
            held = keeping(held, self._serving)
        return held

    def _called(self, data: Mapping[str, bytes]) -> Paths | None:
        """The path that should be called; None where it is the plain one."""
        if self._proof is None:
            return None
        now, held = self._now(), paths.of_secret(data)
        if self._worn is None:
            self._worn = frozenset(held.counting if held else ())
        worn: Collection[str] = self._worn
        if held is None and self._paths is not None:  # who deletes it wants a new one
            held, worn = replace(self._paths, old=""), (self._paths.new,)
        if held is None:
            return paths.fresh(now)
        settled = self._trust.calls(held.new) and self._before.calls(held.new)
        return paths.renewed(held, now, settled=settled, worn=worn, shown=self._proof.shown)

    def _first(self, now: datetime) -> Authority:
        return fresh(self._names, now, self._trust.any)

    def _parsed(self, data: Mapping[str, bytes], now: datetime) -> Authority:
        try:
            return of_secret(data)
        except CertificateInvalid as error:
            if foreign(data):
                raise CertificateInvalid(
                    "tls.secret: the Secret holds a certificate that is not the guard's own: "
                    "delete it, name another in tls.secret, or set tls.source: files"
                ) from None
            if data:
                _log.warning("the Secret is written again: it %s", error)
            return self._last or self._first(now)
