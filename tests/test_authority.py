"""The guard's own CA through the years: what its Secret holds, what replicas serve and trust."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from hypothesis import example, given, settings
from hypothesis import strategies as st

from webhook import tls
from webhook.errors import CertificateInvalid, ClusterUnreachable
from webhook.model.calls import Hook
from webhook.tls.authority import Authority, fresh, keeping, of_secret, ours, renewed, rotated
from webhook.tls.issuing import CA_LIFE, LEAF_LIFE, issue, names_of

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
NAMES = ["conversion-guard.conversion-guard.svc", "127.0.0.1"]
DAY = timedelta(days=1)
OTHER = fresh(NAMES, NOW)
times = st.timedeltas(-2 * CA_LIFE, 2 * CA_LIFE).map(lambda passed: NOW + passed)


@pytest.fixture(scope="module")
def first() -> Authority:
    return fresh(NAMES, NOW)


@given(times, st.booleans())
def test_nothing_is_due_twice(at: datetime, settled: bool) -> None:
    once = renewed(fresh(NAMES, NOW), NAMES, at, settled=settled)
    assert renewed(once, NAMES, at, settled=False) == once
    assert of_secret(once.data()).data() == once.data()
    leaf, ca = once.leaf.certificate, once.cas[0]
    for certificate in (leaf, ca, once.issuer):
        assert certificate.not_valid_before_utc <= at < certificate.not_valid_after_utc
    assert ca.not_valid_after_utc - at >= CA_LIFE / 3
    assert names_of(leaf) == set(NAMES)


@pytest.mark.parametrize(
    ("days", "new"),
    [(0, False), (19.9, False), (20.1, True), (31, True), (-1, True)],
)
def test_a_leaf_is_renewed_at_two_thirds_by_the_same_ca(
    first: Authority, days: float, new: bool
) -> None:
    later = renewed(first, NAMES, NOW + timedelta(days=days), settled=False)
    assert (later.leaf != first.leaf) is new
    if days > 0:
        assert later.cas == first.cas
        later.leaf.certificate.verify_directly_issued_by(first.cas[0])


def test_a_leaf_is_renewed_for_a_name_that_it_lacks_but_not_for_one_too_many(
    first: Authority,
) -> None:
    assert renewed(first, NAMES[:1], NOW, settled=False) == first, "an old replica in a roll-out"
    more = renewed(first, [*NAMES, "guard.example"], NOW, settled=False)
    assert names_of(more.leaf.certificate) == {*NAMES, "guard.example"}


def test_a_ca_is_replaced_in_three_steps(first: Authority) -> None:
    at = NOW + CA_LIFE * 2 / 3 + DAY
    # The leaf of that time, of the old CA.
    held = renewed(first, NAMES, at - DAY * 2, settled=False)
    assert held.cas == first.cas
    started = renewed(held, NAMES, at, settled=True)
    assert started.cas[1:] == held.cas
    assert started.leaf == held.leaf, "nobody trusts the new CA yet"
    assert renewed(started, NAMES, at + DAY, settled=False) == started
    switched = renewed(started, NAMES, at + DAY, settled=True)
    assert switched.issuer == switched.cas[0] == started.cas[0]
    assert switched.cas == started.cas, "a replica may still serve the old leaf"
    assert len(renewed(switched, NAMES, at + LEAF_LIFE - DAY, settled=True).cas) == 2
    ended = renewed(switched, NAMES, at + LEAF_LIFE, settled=True)
    assert ended.cas == started.cas[:1]


def test_a_leaf_that_expires_before_the_new_ca_is_trusted_is_replaced_all_the_same(
    first: Authority,
) -> None:
    started = rotated(first, NOW)
    late = renewed(started, NAMES, NOW + LEAF_LIFE, settled=False)
    assert late.issuer == late.cas[0]


def test_a_secret_deleted_in_a_loop_keeps_the_served_ca_and_a_small_bundle(
    first: Authority,
) -> None:
    held = first
    for _ in range(30):
        held = rotated(held, NOW)
        assert held.issuer == first.cas[0]
        assert of_secret(held.data()).data() == held.data()
    assert len(held.cas) == 3


def test_a_ca_that_is_served_by_is_put_back_and_never_pushes_out_another_that_is(
    first: Authority,
) -> None:
    held = rotated(first, NOW)
    assert keeping(held, first.cas[0]) == held
    lost = fresh(NAMES, NOW).cas[0]
    for _ in range(30):
        kept = keeping(rotated(held, NOW), lost)
        assert kept.cas[1:] == (first.cas[0], lost)
        assert keeping(kept, lost) == kept


@pytest.mark.parametrize("bundle", [b"", b"junk", issue(NAMES, NOW).ca])
def test_only_cas_of_a_guard_are_taken_over(bundle: bytes) -> None:
    assert ours(bundle) == ()
    assert ours(OTHER.bundle) == OTHER.cas


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"ca.key": None}, "has no ca.key"),
        ({"ca.crt": b""}, "can't be read"),
        ({"tls.key": b"\xff\x00junk"}, "can't be read"),
        ({"tls.key": OTHER.data()["tls.key"]}, "tls.key is not the key of tls.crt"),
        ({"ca.key": OTHER.data()["ca.key"]}, "ca.key is not the key of the first"),
        (
            {"ca.crt": OTHER.data()["ca.crt"], "ca.key": OTHER.data()["ca.key"]},
            "not signed by a CA",
        ),
    ],
)
def test_what_is_wrong_with_a_secret_is_told(
    first: Authority, change: Mapping[str, bytes | None], told: str
) -> None:
    data = {k: v for k, v in {**first.data(), **change}.items() if v is not None}
    with pytest.raises(CertificateInvalid, match=told):
        of_secret(data)


async def nothing() -> None:
    pass


class Cluster:
    """A Secret and two webhook configurations, in memory; `before_write` is for races."""

    def __init__(self) -> None:
        self.secret: dict[str, bytes] | None = None
        self.bundles = {"validating": b"", "mutating": b""}
        self.ends: dict[str, str | None] = dict.fromkeys(self.bundles)
        self.writes = 0
        self.version = 0
        self.before_write: Callable[[], Awaitable[None]] = nothing
        self.down = False

    def put(self, data: Mapping[str, bytes] | None) -> None:
        self.secret = dict(data) if data is not None else None
        self.version += 1


class Store:
    """One replica's way to it, with the optimistic locking of the API server."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._version = 0

    async def read(self) -> Mapping[str, bytes] | None:
        if self._cluster.down:
            raise ClusterUnreachable("the API server can't be reached")
        self._version = self._cluster.version
        return self._cluster.secret

    async def write(self, data: Mapping[str, bytes]) -> None:
        hook, self._cluster.before_write = self._cluster.before_write, nothing
        await hook()
        if self._version == self._cluster.version:
            self._cluster.put(data)
            self._cluster.writes += 1

    async def hooks(self) -> Sequence[Hook]:
        return [
            Hook(bundle, self._cluster.ends[at]) for at, bundle in self._cluster.bundles.items()
        ]

    async def mend(self, wanted: Callable[[Hook], Hook]) -> None:
        there = await self.hooks()
        hooks = [wanted(hook) for hook in there]
        self._cluster.writes += hooks != there
        names = tuple(self._cluster.bundles)
        self._cluster.bundles = {at: hook.bundle for at, hook in zip(names, hooks, strict=True)}
        self._cluster.ends = {at: hook.end for at, hook in zip(names, hooks, strict=True)}


class Replica:
    """A guard as far as its certificate goes, and its path where there is `proof` of it."""

    def __init__(
        self,
        cluster: Cluster,
        now: Callable[[], datetime],
        proof: tls.PathProof | None = None,
    ) -> None:
        self.loads = 0
        self.served = tls.Served(now, self._loaded)
        self._managed = tls.SelfManaged(self.served, NAMES, now, proof)
        self._store = Store(cluster)

    def _loaded(self) -> None:
        self.loads += 1

    def look(self) -> None:
        asyncio.run(self.looking())

    async def looking(self) -> None:
        await self._managed.look(self._store)

    @property
    def ready(self) -> bool:
        return self._managed.ready

    def certificate(self) -> x509.Certificate:
        """What a client is shown."""
        return shown(self.served.first.context)


def shown(server: ssl.SSLContext, client: ssl.SSLContext | None = None) -> x509.Certificate:
    """The certificate of a handshake in memory. Raises SSLError where there is none."""
    client = client or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    near, far = client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for side in (near, far):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    der = near.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def trusted(certificate: x509.Certificate, bundle: bytes, now: datetime) -> bool:
    """As a client judges."""
    if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
        return False
    for ca in x509.load_pem_x509_certificates(bundle):
        if ca.subject == certificate.issuer and ca.not_valid_after_utc > now:
            certificate.verify_directly_issued_by(ca)
            return True
    return False


def replicas(count: int = 2) -> tuple[Cluster, Clock, Sequence[Replica]]:
    cluster, clock = Cluster(), Clock()
    return cluster, clock, [Replica(cluster, clock) for _ in range(count)]


def test_the_replica_that_comes_first_makes_it_and_the_others_take_it() -> None:
    cluster, _, (one, other) = replicas()
    cluster.before_write = other.looking  # in the middle of one's look
    one.look()
    assert one.certificate() == other.certificate()
    assert cluster.secret is not None
    assert set(cluster.bundles.values()) == {cluster.secret["ca.crt"]}
    assert set(cluster.ends.values()) == {""}, "the plain path"
    writes = cluster.writes
    for _ in range(3):
        one.look()
        other.look()
    assert cluster.writes == writes, "what is right is not written"
    assert (one.loads, other.loads) == (1, 1)


def test_31_days_later_it_heals_at_the_first_look() -> None:
    cluster, clock, (one, other) = replicas()
    one.look()
    other.look()
    clock.now += timedelta(days=31)
    assert not one.served.good
    assert one.served.seconds_left() == -DAY.total_seconds()
    one.look()
    other.look()
    for replica in (one, other):
        assert trusted(replica.certificate(), cluster.bundles["mutating"], clock.now)
        assert replica.served.good


def assert_trusted(cluster: Cluster, clock: Clock, pair: Sequence[Replica]) -> None:
    """Each replica, by every webhook."""
    for replica in pair:
        for bundle in cluster.bundles.values():
            assert trusted(replica.certificate(), bundle, clock.now)


def test_a_deleted_secret_means_new_keys_and_no_lost_call() -> None:
    cluster, clock, pair = replicas()
    for replica in pair:
        replica.look()
    before = cluster.bundles["validating"]
    cluster.put(None)
    for _ in range(4):
        for replica in pair:
            replica.look()
            assert_trusted(cluster, clock, pair)
    assert cluster.secret is not None
    assert not cluster.bundles["validating"].startswith(before)
    assert cluster.bundles["validating"].endswith(before)
    assert pair[0].certificate() == pair[1].certificate()
    assert not trusted(pair[0].certificate(), before, clock.now)


def test_a_replica_that_starts_without_a_secret_takes_no_trust_from_those_that_run() -> None:
    cluster, clock, (one, other) = replicas()
    one.look()
    other.look()
    for _ in range(10):
        cluster.put(None)
        other = Replica(cluster, clock)
        other.look()
        assert not other.ready, "an API server may not know of its CA yet"
        assert_trusted(cluster, clock, (one, other))
        for replica in (other, one, one, other, one):
            replica.look()
            assert_trusted(cluster, clock, (one, other))
        assert other.ready
    assert cluster.secret is not None
    assert len(x509.load_pem_x509_certificates(cluster.secret["ca.crt"])) <= 3
    for _ in range(8):
        one.look()
    assert set(cluster.bundles.values()) == {cluster.secret["ca.crt"]}


@pytest.mark.parametrize("days", [0, 40, 2500, 4000])
def test_what_the_secret_no_longer_names_is_put_back_by_who_serves_by_it(days: int) -> None:
    """As after a restore of a backup: another CA, a leaf of it, and nothing of the one in use; and
    the leaf has ended, the CA is due, or has ended, too."""
    cluster, clock, (one, other) = replicas()
    one.look()
    other.look()
    for replica in (other, one, one, other, one, other):
        if replica is other:
            cluster.put(fresh(NAMES, clock.now - DAY * days).data())
        replica.look()
        assert_trusted(cluster, clock, (one, other))


def test_a_ca_that_is_due_when_the_secret_is_deleted_is_replaced_once() -> None:
    cluster, clock, (one,) = replicas(1)
    one.look()
    clock.now += CA_LIFE * 2 / 3 + DAY
    cluster.put(None)
    one.look()
    assert cluster.secret is not None
    assert len(of_secret(cluster.secret).cas) == 2


def test_a_new_leaf_is_served_only_once_its_ca_has_been_trusted_for_two_looks() -> None:
    cluster, clock, (one, other) = replicas()
    one.look()
    other.look()
    before = one.certificate()
    cluster.put(fresh(NAMES, clock.now).data())
    other.look()  # it is written by then, but a moment ago
    one.look()
    assert one.certificate() == before
    one.look()
    assert one.certificate() != before


@pytest.mark.parametrize(
    "garbage", [{}, {"tls.crt": b"junk", "tls.key": b"\x00", "ca.crt": b"-----BEGIN"}]
)
def test_garbage_is_replaced_by_what_is_served(garbage: dict[str, bytes]) -> None:
    cluster, _, (one,) = replicas(1)
    one.look()
    good, bundle = cluster.secret, cluster.bundles["mutating"]
    cluster.put(garbage)
    one.look()
    assert cluster.secret == good
    assert cluster.bundles["mutating"] == bundle
    assert one.loads == 1


def test_somebody_elses_certificate_is_left_alone() -> None:
    cluster, _, (one,) = replicas(1)
    issued = issue(NAMES, NOW)
    theirs = {"tls.crt": issued.certificate, "tls.key": issued.key}
    cluster.put(theirs)
    with pytest.raises(CertificateInvalid, match="set tls\\.source: files"):
        one.look()
    assert cluster.secret == theirs
    assert cluster.writes == 0


def test_an_overwritten_bundle_is_mended_at_the_next_look() -> None:
    cluster, _, (one,) = replicas(1)
    one.look()
    bundle = cluster.bundles["mutating"]
    cluster.bundles["validating"] = b"someone else's"
    one.look()
    assert set(cluster.bundles.values()) == {bundle}
    assert one.loads == 1


def test_an_unreachable_cluster_leaves_what_is_served() -> None:
    cluster, _, (one,) = replicas(1)
    one.look()
    cluster.down = True
    with pytest.raises(ClusterUnreachable):
        one.look()
    assert one.served.good


steps = st.lists(
    st.tuples(
        st.sampled_from(["one", "other", "both", "delete", "garbage", "restart"]),
        st.sampled_from([timedelta(seconds=5), timedelta(hours=7), DAY * 4, DAY * 300]),
    ),
    min_size=5,
    max_size=20,
)
LOST = [("delete", DAY * 4), ("both", timedelta())]


# A Secret lost when its leaf is due: nobody trusts the new CA yet, and the old one's key is gone.
@example([*[("one", DAY * 4)] * 4, ("delete", DAY * 4), *[("other", DAY * 4)] * 3])
@example([*[("one", DAY * 4)] * 4, ("delete", DAY * 4), *[("one", DAY * 4)] * 3])
# A look between two silences finds a CA that has come meanwhile, and the leaf served is due: one
# that another has taken long before, or nobody.
@example([("both", DAY * 12), *LOST, *[("other", DAY * 4)] * 4])
@example([("both", DAY * 12), *LOST, ("both", DAY * 9), *[("other", DAY * 4)] * 2])
# Lost again, and only one has had a look at the CA before; it must sign a last leaf, too.
@example([("delete", DAY), *[("both", DAY * 8), ("delete", DAY * 8)] * 2, ("other", DAY * 8)])
@settings(max_examples=40)
@given(steps)
def test_whatever_happens_both_replicas_are_trusted(
    happenings: list[tuple[str, timedelta]],
) -> None:
    """Time passes (300 days: everything stood still), Secrets are lost, a replica restarts or hears
    nothing for up to 9 days, or while the Secret is lost: see webhook.tls.authority."""
    cluster, clock, pair = replicas()
    pair = list(pair)
    for replica in pair:
        replica.look()
    heard, lost = clock.now, 0
    for what, passed in happenings:
        clock.now += passed
        if clock.now - heard > DAY * 9 or lost == 2:  # a leaf is renewed 10 days before its end
            what = "both"
        if what == "delete":
            cluster.put(None)
            lost += 1
        elif what == "garbage":
            cluster.put({"tls.crt": b"junk"})
            lost += 1
        elif what == "restart":
            pair[1] = Replica(cluster, clock)
            pair[1].look()
        if what == "both":
            heard, lost = clock.now, 0
        if what in ("one", "both"):
            pair[0].look()
        if what in ("other", "both"):
            pair[1].look()
        assert_trusted(cluster, clock, pair)
