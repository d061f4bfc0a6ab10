"""Metrics and logs: the only importer of prometheus_client."""

import logging
import sys
from collections.abc import Callable
from typing import TextIO

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

# From a review that only reads memory to one that waits for vSphere until its deadline.
_SECONDS = (5e-6, 2e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """What a platform team scrapes; the names are an interface."""

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
            "Time from the whole body to the answer",
            ("door",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._reloads = Counter(
            "conversion_guard_settings_reloads",
            "Changes of the settings file; a failed one leaves the old settings in force",
            ("result",),
            registry=self.registry,
        )
        self._loads = Counter(
            "conversion_guard_certificate_loads",
            "Certificates put into service, and looks for one that failed (the old one stays)",
            ("result",),
            registry=self.registry,
        )
        for result in ("ok", "failed"):
            self._reloads.labels(result)
            self._loads.labels(result)
        self._children: dict[tuple[str, str, str, str], tuple[Counter, Histogram]] = {}

    def reviewed(self, door: str, kind: str, operation: str, verdict: str, seconds: float) -> None:
        """Count one answer. All four labels are from closed sets: no caller can add series."""
        labels = door, kind, operation, verdict
        counters = self._children.get(labels)
        if counters is None:  # looking one up by its labels costs more than counting
            counters = self._reviews.labels(*labels), self._seconds.labels(door)
            self._children[labels] = counters
        reviews, durations = counters
        reviews.inc()
        durations.observe(seconds)

    def reloaded(self, *, ok: bool) -> None:
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

    def serve(self, host: str, port: int) -> tuple[int, Callable[[], None]]:
        """Serve /metrics in a thread of its own: the port it listens on, and how to stop it."""
        server, thread = start_http_server(port, host, registry=self.registry)

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return server.server_port, stop


def log_to(stream: TextIO = sys.stderr, level: int = logging.INFO) -> None:
    """One line an event, with time, level and logger."""
    handler = logging.StreamHandler(stream)
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    formatter.default_msec_format = "%s.%03d"
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
