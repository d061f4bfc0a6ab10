"""Metrics: the only importer of prometheus_client."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from typing import Literal, NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from webhook import __version__

# From a review that only reads memory to one that waits for vSphere until its deadline.
_SECONDS = (5e-6, 2e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0)


class ProviderReport(NamedTuple):
    """What is told of one provider: never of its VMs."""

    provider: str
    state: str
    vms: int
    age: float | None
    """Seconds; None where nothing is known yet."""
    reads: Mapping[tuple[str, str], int]
    """By kind and result."""


class Metrics:
    """What a platform team scrapes; the names are an interface. Every label is of a closed set, but
    the names of providers: no caller can add series."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._reviews = Counter(
            "conversion_guard_reviews",
            "AdmissionReviews answered",
            ("door", "kind", "operation", "verdict"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "conversion_guard_review_duration_seconds",
            "Time from the complete body to the answer",
            ("door",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._reloads = Counter(
            "conversion_guard_settings_reloads",
            "Reloads of the settings file; after a failed one the old settings stay in force",
            ("result",),
            registry=self.registry,
        )
        self._loads = Counter(
            "conversion_guard_certificate_loads",
            "Loads of the serving certificate; after a failed one the old certificate stays",
            ("result",),
            registry=self.registry,
        )
        self._findings = Counter(
            "conversion_guard_findings",
            "Findings of the rules, by the action taken",
            ("rule", "action"),
            registry=self.registry,
        )
        self._repairs = Counter(
            "conversion_guard_repairs",
            "Objects that a default has filled in, dry runs included",
            ("default",),
            registry=self.registry,
        )
        self._undecided = Counter(
            "conversion_guard_undecided",
            "Undecided reviews, including those that the policy admits",
            ("cause",),
            registry=self.registry,
        )
        self._skipped = Counter(
            "conversion_guard_skipped",
            "PVCs that are skipped because no vendor made them",
            ("reason",),
            registry=self.registry,
        )
        self._refused = Counter(
            "conversion_guard_refused_requests",
            "Requests without a review, or from a client that may not send one",
            ("code",),
            registry=self.registry,
        )
        self._events = Counter(
            "conversion_guard_events",
            "Events on Plans: sent, spared (a repeat, or too many) or failed",
            ("result",),
            registry=self.registry,
        )
        self._api = Counter(
            "conversion_guard_api_requests",
            "Requests to the REST API, by route; empty: refused before routing",
            ("route", "code"),
            registry=self.registry,
        )
        self._restarts = Counter(
            "conversion_guard_part_restarts",
            "Ends of a part of the guard, each of which began anew",
            ("part",),
            registry=self.registry,
        )
        for result in ("ok", "failed"):
            self._reloads.labels(result)
            self._loads.labels(result)
        for result in ("sent", "spared", "failed"):
            self._events.labels(result)
        build = Gauge(
            "conversion_guard_build_info", "Always 1", ("version",), registry=self.registry
        )
        build.labels(__version__).set(1)
        ProcessCollector(registry=self.registry)
        self._children: dict[tuple[str, str, str, str], tuple[Counter, Histogram]] = {}

    def reviewed(self, door: str, kind: str, operation: str, verdict: str, seconds: float) -> None:
        """Count one answer."""
        labels = door, kind, operation, verdict
        counters = self._children.get(labels)
        if counters is None:  # looking one up by its labels costs more than counting
            counters = self._reviews.labels(*labels), self._seconds.labels(door)
            self._children[labels] = counters
        reviews, durations = counters
        reviews.inc()
        durations.observe(seconds)

    def expect(self, kinds: Iterable[str], causes: Iterable[str], reasons: Iterable[str]) -> None:
        """Show each of these at 0, so that the first one counts as a rise."""
        for kind, operation, verdict in product(
            kinds, ("CREATE", "UPDATE"), ("admitted", "denied")
        ):
            self._reviews.labels("validate", kind, operation, verdict)
        for cause in causes:
            self._undecided.labels(cause)
        for reason in reasons:
            self._skipped.labels(reason)

    def expect_parts(self, parts: Iterable[str]) -> None:
        """Show each of these at 0."""
        for part in parts:
            self._restarts.labels(part)

    def restarted(self, part: str) -> None:
        """Count the end of a part that begins anew."""
        self._restarts.labels(part).inc()

    def found(self, rule: str, action: str) -> None:
        """Count one finding."""
        self._findings.labels(rule, action).inc()

    def expect_repairs(self, defaults: Iterable[str]) -> None:
        """Show each of these at 0."""
        for default in defaults:
            self._repairs.labels(default)

    def repaired(self, default: str) -> None:
        """Count an object that a default has filled in."""
        self._repairs.labels(default).inc()

    def undecided(self, cause: str) -> None:
        """Count a review whose facts could not be had."""
        self._undecided.labels(cause).inc()

    def skipped(self, reason: str) -> None:
        """Count a PVC that is none of a vendor's."""
        self._skipped.labels(reason).inc()

    def refused(self, code: int) -> None:
        """Count a request that got an HTTP error."""
        self._refused.labels(str(code)).inc()

    def event(self, result: Literal["sent", "spared", "failed"]) -> None:
        """Count an Event on a Plan."""
        self._events.labels(result).inc()

    def called(self, route: str, code: int) -> None:
        """Count a request to the REST API; `route` is its template, never what a caller wrote."""
        self._api.labels(route, str(code)).inc()

    def watch(
        self,
        providers: Callable[[], Iterable[ProviderReport]],
        states: tuple[str, ...],
        max_age: Callable[[], float],
    ) -> None:
        """Tell of `providers` whenever somebody scrapes."""
        self.registry.register(_Providers(providers, states))
        limit = Gauge(
            "conversion_guard_inventory_max_age_seconds",
            "The setting maxAge: an older inventory decides nothing",
            registry=self.registry,
        )
        limit.set_function(max_age)

    def reloaded(self, ok: bool) -> None:
        """Count a change of the settings file."""
        self._reloads.labels("ok" if ok else "failed").inc()

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
        self._loads.labels("ok" if ok else "failed").inc()

    def text(self, accept: str) -> tuple[bytes, str]:
        """What a scrape gets, and its media type: the best of those that `accept` names."""
        encode, media_type = choose_encoder(accept)
        return encode(self.registry), media_type


class _Providers(Collector):
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
