"""What this process counts, and its text for Prometheus.

The hot path adds to plain integers (a `+= 1` on a dict entry costs 0.05 µs, on a child of
prometheus_client 0.5 µs); one collector reads them when a scrape asks. Every label value comes from
configuration or from an enum, never from a request. Knows nothing of who counts, or of HTTP.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections import defaultdict
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from sidecar import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client.core import Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
BREAKER_STATES: Final = ("closed", "open", "half-open")
# Seconds. The first two tell a local look-up from one that went to Redis.
BOUNDS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025),
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_LE: Final = (*(str(bound) for bound in BOUNDS), "+Inf")


class Histogram:
    """How many durations fell between two `BOUNDS`, and their sum in seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)  # the last: longer than every bound
        self.total = 0.0

    def __repr__(self) -> str:
        return f"<Histogram {sum(self.counts)} observed, {self.total:.6f} s>"

    def observe(self, seconds: float) -> None:
        """Count one duration; a value on a bound belongs below it, as Prometheus' `le` says."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts by upper bound."""
        return list(zip(_LE, accumulate(self.counts), strict=True))


class RouteMetrics:
    """The counts of one configured route; `codes` is by the status the client got."""

    __slots__ = ("codes", "duration", "name", "upstream")

    def __init__(self, name: str) -> None:
        self.name = name
        self.codes: dict[int, int] = defaultdict(int)
        self.duration = Histogram()
        self.upstream = Histogram()

    def __repr__(self) -> str:
        return f"<RouteMetrics {self.name} {sum(self.codes.values())} requests>"


class Metrics:
    """Everything this process counts. All fields are plain and meant to be added to in place.

    `reasons` are the labels of every denial there can be, so that their series start at zero: a
    counter that first appears with 1 shows no increase.
    """

    __slots__ = (
        "_routes",
        "access_log_dropped",
        "allowed",
        "breaker_state",
        "connections",
        "degraded",
        "denied",
        "in_flight",
        "logins",
        "lookup_duration",
        "lookups",
    )

    def __init__(self, reasons: Iterable[str] = ()) -> None:
        self._routes: dict[str, RouteMetrics] = {}
        self.allowed = 0
        self.denied: dict[str, int] = defaultdict(int, dict.fromkeys(reasons, 0))
        self.lookups: dict[tuple[str, str], int] = defaultdict(int)  # (source, result)
        self.lookup_duration: dict[str, Histogram] = defaultdict(Histogram)  # by source
        self.logins: dict[tuple[str, str], int] = defaultdict(int)  # (method, result)
        self.connections: dict[str, int] = {"downstream": 0, "upstream": 0}  # open now
        self.in_flight = 0
        self.degraded = 0  # 1 while the session store cannot be used
        self.breaker_state = "closed"
        self.access_log_dropped = 0

    def __repr__(self) -> str:
        denied = sum(self.denied.values())
        return f"<Metrics {self.allowed} allowed, {denied} denied, {self.in_flight} in flight>"

    def route(self, name: str) -> RouteMetrics:
        """The counts of a configured route, made on first use and kept over reloads."""
        found = self._routes.get(name)
        if found is None:
            found = self._routes[name] = RouteMetrics(name)
        return found

    def routes(self) -> Iterable[RouteMetrics]:
        """Every route's counts."""
        return self._routes.values()

    def collector(self) -> Collector:
        """What a prometheus_client registry reads these counts through."""
        return _MetricsCollector(self)

    def render(self) -> tuple[bytes, str]:
        """The scrape's answer and its content type; this process's own figures stand beside."""
        registry = CollectorRegistry()
        registry.register(self.collector())
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        return generate_latest(registry), CONTENT_TYPE


class _MetricsCollector(Collector):
    """Turns the integers of one `Metrics` into families, at scrape time."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> Iterable[Metric]:
        """Nothing: tells the registry not to collect at registration."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Every family, in the order of the documentation."""
        yield from self._requests()
        yield from self._decisions()
        yield from self._sessions()
        yield from self._process()

    def _requests(self) -> Iterator[Metric]:
        routes = tuple(self._metrics.routes())
        requests = CounterMetricFamily(
            "sidecar_requests_total", "Requests answered.", labels=("route", "code")
        )
        for route in routes:
            for code, count in _by_label(route.codes).items():
                requests.add_metric((route.name, code), count)
        yield requests
        yield _histograms(
            "sidecar_request_duration_seconds",
            "From a request's head to the last byte of its answer.",
            "route",
            {route.name: route.duration for route in routes},
        )
        yield _histograms(
            "sidecar_upstream_duration_seconds",
            "From passing a request on to the head of the upstream's answer.",
            "route",
            {route.name: route.upstream for route in routes},
        )

    def _decisions(self) -> Iterator[Metric]:
        decisions = CounterMetricFamily(
            "sidecar_decisions_total",
            "Requests allowed and denied; a denial has its one reason.",
            labels=("decision", "reason"),
        )
        decisions.add_metric(("allow", "none"), self._metrics.allowed)
        for reason, count in self._metrics.denied.items():
            decisions.add_metric(("deny", reason), count)
        yield decisions
        yield _counters(
            "sidecar_logins_total",
            "Attempts to log in.",
            ("method", "result"),
            self._metrics.logins,
        )

    def _sessions(self) -> Iterator[Metric]:
        metrics = self._metrics
        yield _counters(
            "sidecar_session_lookups_total",
            "Sessions asked for, by who answered.",
            ("source", "result"),
            metrics.lookups,
        )
        yield _histograms(
            "sidecar_session_lookup_duration_seconds",
            "How long a session look-up took.",
            "source",
            metrics.lookup_duration,
        )
        yield GaugeMetricFamily(
            "sidecar_degraded",
            "1 while the shared session store cannot be used.",
            value=metrics.degraded,
        )
        breaker = GaugeMetricFamily(
            "sidecar_breaker_state",
            "1 for the state that the session store's circuit breaker is in.",
            labels=("state",),
        )
        for state in BREAKER_STATES:
            breaker.add_metric((state,), float(state == metrics.breaker_state))
        yield breaker

    def _process(self) -> Iterator[Metric]:
        metrics = self._metrics
        yield GaugeMetricFamily(
            "sidecar_requests_in_flight", "Requests not answered yet.", value=metrics.in_flight
        )
        connections = GaugeMetricFamily(
            "sidecar_connections", "Open connections.", labels=("side",)
        )
        for side, count in metrics.connections.items():
            connections.add_metric((side,), count)
        yield connections
        yield CounterMetricFamily(
            "sidecar_access_log_dropped_total",
            "Access log lines dropped because standard output did not take them in time.",
            value=metrics.access_log_dropped,
        )
        build = GaugeMetricFamily(
            "sidecar_build_info", "What is running; always 1.", labels=("version", "python")
        )
        build.add_metric((__version__, platform.python_version()), 1)
        yield build


def _by_label(codes: Mapping[int, int]) -> dict[str, int]:
    """Counts by label. An upstream may answer with any three digits; those beyond 599 are one."""
    counts: dict[str, int] = defaultdict(int)
    for code, count in codes.items():
        counts[str(code) if 100 <= code <= 599 else "other"] += count
    return counts


def _counters(
    name: str, text: str, labels: tuple[str, str], counts: Mapping[tuple[str, str], int]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family


def _histograms(
    name: str, text: str, label: str, histograms: Mapping[str, Histogram]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=(label,))
    for value, histogram in histograms.items():
        family.add_metric((value,), histogram.buckets(), histogram.total)
    return family
