"""Metrics: the only importer of prometheus_client."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import accumulate, product
from typing import Literal, NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from webhook import __version__

disable_created_metrics()  # type: ignore[no-untyped-call]  # another series for each, which nobody asks for

# From a review that only reads memory to one that waits for vSphere until its deadline.
_SECONDS = (5e-6, 2e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0)
_LAGS = (0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)


class ProviderReport(NamedTuple):
    """What is told of one provider: never of its VMs."""

    provider: str
    state: str
    vms: int
    age: float | None
    """Seconds; None where nothing is known yet."""
    reads: Mapping[tuple[str, str], int]
    """By kind and result."""


class _Counts(Collector):
    """A counter by its labels' values. A review adds to some of them: plain numbers, which only the
    event loop changes, and which a scrape copies at once."""

    def __init__(self, registry: CollectorRegistry, name: str, text: str, *labels: str) -> None:
        self._name, self._text, self._labels = f"conversion_guard_{name}", text, labels
        self._counts: dict[tuple[str, ...], int] = {}
        registry.register(self)

    def add(self, *values: str, by: int = 1) -> None:
        """By 0, too: so that the first one counts as a rise."""
        self._counts[values] = self._counts.get(values, 0) + by

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for values, count in list(self._counts.items()):
            family.add_metric(values, count)
        yield family


class _Durations(Collector):
    """A histogram by webhook, likewise."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._webhooks: dict[str, tuple[list[int], list[float]]] = {}
        """How many fell under each bound and none below it, and the sum."""
        registry.register(self)

    def add(self, webhook: str, seconds: float) -> None:
        if (known := self._webhooks.get(webhook)) is None:
            known = self._webhooks[webhook] = [0] * (len(_SECONDS) + 1), [0.0]
        counts, total = known
        counts[bisect_left(_SECONDS, seconds)] += 1
        total[0] += seconds

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(
            "conversion_guard_review_duration_seconds",
            "Time from the complete body to the answer",
            labels=("webhook",),
        )
        bounds = [*map(floatToGoString, _SECONDS), "+Inf"]
        for webhook, (counts, total) in list(self._webhooks.items()):
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            family.add_metric((webhook,), buckets, total[0])
        yield family


class Metrics:
    """What a platform team scrapes; the names are an interface. Every label is of a closed set, but
    the names of providers: no caller can add series."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._reviews = _Counts(
            registry,
            "reviews",
            "AdmissionReviews answered",
            *("webhook", "kind", "operation", "verdict"),
        )
        self._seconds = _Durations(registry)
        self._reloads = _Counts(
            registry,
            "settings_reloads",
            "Reloads of the settings file; after a failed one the old settings stay in force",
            "result",
        )
        self._loads = _Counts(
            registry,
            "certificate_loads",
            "Loads of the serving certificate; after a failed one the old certificate stays",
            "result",
        )
        self._findings = _Counts(
            registry, "findings", "Findings of the rules, by the action taken", "rule", "action"
        )
        self._repairs = _Counts(
            registry,
            "repairs",
            "Objects that a default has filled in, dry runs included",
            "default",
        )
        self._undecided = _Counts(
            registry,
            "undecided",
            "Undecided reviews, including those that the policy admits",
            "cause",
        )
        self._skipped = _Counts(
            registry, "skipped", "PVCs that are skipped because no vendor made them", "reason"
        )
        self._refused = _Counts(
            registry,
            "refused_requests",
            "Requests without a review, or from a client that may not send one",
            "code",
        )
        self._events = _Counts(
            registry,
            "events",
            "Events: sent, spared (a repeat, or too many) or failed",
            "result",
        )
        self._api = _Counts(
            registry,
            "api_requests",
            "Requests to the REST API, by route; empty: refused before routing",
            *("route", "code"),
        )
        self._restarts = Counter(  # what follows vSphere counts from a thread of its own
            "conversion_guard_part_restarts",
            "Ends of a part of the guard, each of which began anew",
            ("part",),
            registry=registry,
        )
        self._drift = Counter(
            "conversion_guard_drift",
            "What has become in vSphere of VMs that a PVC or a Plan names",
            ("what",),
            registry=registry,
        )
        self._turned = Counter(
            "conversion_guard_turned",
            "Objects that were right and are wrong now (fail), or the other way round (pass)",
            ("kind", "to"),
            registry=registry,
        )
        self._objects = Gauge(
            "conversion_guard_objects",
            "Objects that are watched, by what came of them; only the replica that watches has any",
            ("kind", "state"),
            registry=registry,
        )
        self._lag = Histogram(
            "conversion_guard_report_lag_seconds",
            "Time from vSphere's news to the report that tells what came of it",
            buckets=_LAGS,
            registry=registry,
        )
        for result in ("ok", "failed"):
            self._reloads.add(result, by=0)
            self._loads.add(result, by=0)
        for result in ("sent", "spared", "failed"):
            self._events.add(result, by=0)
        build = Gauge("conversion_guard_build_info", "Always 1", ("version",), registry=registry)
        build.labels(__version__).set(1)
        ProcessCollector(registry=registry)

    def reviewed(
        self, webhook: str, kind: str, operation: str, verdict: str, seconds: float
    ) -> None:
        """Count one answer."""
        self._reviews.add(webhook, kind, operation, verdict)
        self._seconds.add(webhook, seconds)

    def expect(self, kinds: Iterable[str], causes: Iterable[str], reasons: Iterable[str]) -> None:
        """Show each of these at 0, so that the first one counts as a rise."""
        for kind, operation, verdict in product(
            kinds, ("CREATE", "UPDATE"), ("admitted", "denied")
        ):
            self._reviews.add("validate", kind, operation, verdict, by=0)
        for cause in causes:
            self._undecided.add(cause, by=0)
        for reason in reasons:
            self._skipped.add(reason, by=0)

    def expect_parts(self, parts: Iterable[str]) -> None:
        """Show each of these at 0."""
        for part in parts:
            self._restarts.labels(part)

    def restarted(self, part: str) -> None:
        """Count the end of a part that begins anew."""
        self._restarts.labels(part).inc()

    def found(self, rule: str, action: str) -> None:
        """Count one finding."""
        self._findings.add(rule, action)

    def expect_repairs(self, defaults: Iterable[str]) -> None:
        """Show each of these at 0."""
        for default in defaults:
            self._repairs.add(default, by=0)

    def repaired(self, default: str) -> None:
        """Count an object that a default has filled in."""
        self._repairs.add(default)

    def undecided(self, cause: str) -> None:
        """Count a review whose facts could not be had."""
        self._undecided.add(cause)

    def skipped(self, reason: str) -> None:
        """Count a PVC that is none of a vendor's."""
        self._skipped.add(reason)

    def refused(self, code: int) -> None:
        """Count a request that got an HTTP error."""
        self._refused.add(str(code))

    def event(self, result: Literal["sent", "spared", "failed"]) -> None:
        """Count an Event."""
        self._events.add(result)

    def audited(
        self,
        drifts: Iterable[str],
        kinds: Iterable[str],
        words: Iterable[str],
        count: Callable[[str, str], int],
    ) -> None:
        """Show each of these at 0, and what `count` says of a kind and a word at each scrape."""
        for what in drifts:
            self._drift.labels(what)
        for kind, word in product(kinds, words):
            self._objects.labels(kind, word).set_function(partial(count, kind, word))
            if word in ("pass", "fail"):
                self._turned.labels(kind, word)

    def drifted(self, what: str) -> None:
        """Count what has become of a VM."""
        self._drift.labels(what).inc()

    def turned(self, kind: str, to: str) -> None:
        """Count an object that was right and is wrong, or the other way round."""
        self._turned.labels(kind, to).inc()

    def reported(self, seconds: float) -> None:
        """Measure how long after vSphere's news their report was there."""
        self._lag.observe(seconds)

    def called(self, route: str, code: int) -> None:
        """Count a request to the REST API; `route` is its template, never what a caller wrote."""
        self._api.add(route, str(code))

    def watch(
        self,
        providers: Callable[[], Iterable[ProviderReport]],
        states: tuple[str, ...],
        max_age: Callable[[], float],
    ) -> None:
        """Tell of `providers` whenever somebody scrapes."""
        self.registry.register(_ProviderGauges(providers, states))
        limit = Gauge(
            "conversion_guard_inventory_max_age_seconds",
            "The setting maxAge: an older inventory decides nothing",
            registry=self.registry,
        )
        limit.set_function(max_age)

    def reloaded(self, ok: bool) -> None:
        """Count a change of the settings file."""
        self._reloads.add("ok" if ok else "failed")

    def certificate(self, not_after: Callable[[], float], left: Callable[[], float]) -> None:
        """Show when the served certificate expires (Unix time) and the seconds until then."""
        for name, text, value in (
            ("not_after_timestamp_seconds", "When the certificate expires, Unix time", not_after),
            ("seconds_left", "Seconds until the certificate expires", left),
        ):
            gauge = Gauge(f"conversion_guard_certificate_{name}", text, registry=self.registry)
            gauge.set_function(value)

    def certificate_loaded(self, *, ok: bool) -> None:
        """Count a certificate put into service, or a look for one that failed."""
        self._loads.add("ok" if ok else "failed")

    def text(self, accept: str) -> tuple[bytes, str]:
        """What a scrape gets, and its media type: the best of those that `accept` names."""
        encode, media_type = choose_encoder(accept)
        return encode(self.registry), media_type


class _ProviderGauges(Collector):
    """Asked at each scrape: nothing has to be kept up to date."""

    def __init__(
        self, providers: Callable[[], Iterable[ProviderReport]], states: tuple[str, ...]
    ) -> None:
        self._providers, self._states = providers, states

    def collect(self) -> Iterator[Metric]:
        vms = GaugeMetricFamily(
            "conversion_guard_inventory_vms", "VMs in the inventory", labels=("provider",)
        )
        age = GaugeMetricFamily(
            "conversion_guard_inventory_age_seconds",
            "Seconds since vSphere last confirmed the inventory",
            labels=("provider",),
        )
        state = GaugeMetricFamily(
            "conversion_guard_provider_state",
            "1 for the state of the provider, else 0",
            labels=("provider", "state"),
        )
        reads = CounterMetricFamily(
            "conversion_guard_vsphere_reads",
            "Reads of vSphere: full, or fresh for one decision",
            labels=("provider", "kind", "result"),
        )
        for one in self._providers():
            vms.add_metric((one.provider,), one.vms)
            if one.age is not None:
                age.add_metric((one.provider,), one.age)
            for name in self._states:
                state.add_metric((one.provider, name), float(name == one.state))
            for (kind, result), count in one.reads.items():
                reads.add_metric((one.provider, kind, result), count)
        yield from (vms, age, state, reads)
