"""Renders the counters of this process as the metric families that Prometheus scrapes.

Reads `Metrics` at scrape time and adds the metrics of the process itself.
"""

from __future__ import annotations

import platform
from collections import defaultdict
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

    from sidecar.telemetry.metrics import (
        BufferFigures,
        Histogram,
        JournalFigures,
        Metrics,
        NearCacheFigures,
        UploadFigures,
    )

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def render(metrics: Metrics) -> tuple[bytes, str]:
    """The body of a scrape and its content type, with the metrics of the process included."""
    registry = CollectorRegistry()
    registry.register(MetricsCollector(metrics))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return generate_latest(registry), CONTENT_TYPE


class MetricsCollector(Collector):
    """Turns one `Metrics` into metric families at scrape time."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> Iterable[Metric]:
        """Empty, which tells the registry not to collect at registration."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Every metric family: requests, decisions, sessions, connections, process."""
        yield from self._requests()
        yield from self._decisions()
        yield from self._sessions()
        yield from self._connections()
        yield from self._process()

    def _requests(self) -> Iterator[Metric]:
        routes = tuple(self._metrics.routes.values())
        requests = CounterMetricFamily(
            "sidecar_requests_total", "Requests answered.", labels=("route", "code")
        )
        for route in routes:
            for code, count in _by_label(route.codes).items():
                requests.add_metric((route.name, code), count)
        yield requests
        yield _histograms(
            "sidecar_request_duration_seconds",
            "Time from a request's head to the last byte of its answer.",
            "route",
            {route.name: route.duration for route in routes},
        )
        yield _histograms(
            "sidecar_upstream_duration_seconds",
            "Time from forwarding a request to the head of the upstream's answer.",
            "route",
            {route.name: route.upstream for route in routes},
        )

    def _decisions(self) -> Iterator[Metric]:
        decisions = CounterMetricFamily(
            "sidecar_decisions_total",
            "Requests allowed (reason none, or preflight) and denied (by reason).",
            labels=("decision", "reason"),
        )
        passed = self._metrics.preflights
        decisions.add_metric(("allow", "none"), self._metrics.allowed - passed)
        decisions.add_metric(("allow", "preflight"), passed)
        for reason, count in self._metrics.denied.items():
            decisions.add_metric(("deny", reason), count)
        yield decisions
        yield _labelled(
            CounterMetricFamily,
            *("sidecar_malformed_total", "Malformed requests, by what is wrong.", "reason"),
            self._metrics.malformed,
        )
        yield _counters(
            *("sidecar_logins_total", "Attempts to log in or to refresh.", ("method", "result")),
            self._metrics.logins,
        )

    def _sessions(self) -> Iterator[Metric]:
        metrics = self._metrics
        yield _counters(
            "sidecar_session_lookups_total",
            "Session look-ups, by the source that answered.",
            ("source", "result"),
            metrics.lookups,
        )
        yield _histograms(
            "sidecar_session_lookup_duration_seconds",
            "Duration of session look-ups.",
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
        for state in metrics.breaker_states:
            breaker.add_metric((state,), float(state == metrics.breaker_state))
        yield breaker
        yield _labelled(
            CounterMetricFamily,
            "sidecar_degraded_transitions_total",
            "Changes between the shared session store and local memory, by the new state.",
            "to",
            metrics.transitions,
        )
        if metrics.near is not None:
            yield from _near_cache(metrics.near)
        if metrics.journal is not None:
            yield from _journal(metrics.journal)

    def _connections(self) -> Iterator[Metric]:
        metrics = self._metrics
        yield GaugeMetricFamily(
            "sidecar_requests_in_flight", "Requests not answered yet.", value=metrics.in_flight
        )
        yield _labelled(
            GaugeMetricFamily,
            *("sidecar_connections", "Open connections.", "side"),
            metrics.connections,
        )
        if metrics.body_buffer is not None and metrics.uploads is not None:
            yield from _uploads(metrics.body_buffer, metrics.uploads)
        yield _labelled(
            CounterMetricFamily,
            "sidecar_clients_refused_total",
            "Connections and requests refused because of what clients have open, by the limit.",
            "limit",
            metrics.clients_refused,
        )
        yield _labelled(
            CounterMetricFamily,
            *("sidecar_tls_handshakes_total", "TLS handshakes with clients, by outcome.", "result"),
            metrics.handshakes,
        )

    def _process(self) -> Iterator[Metric]:
        metrics = self._metrics
        yield _labelled(
            CounterMetricFamily,
            "sidecar_config_reloads_total",
            "Attempts to reload the configuration, by result.",
            "result",
            metrics.reloads,
        )
        yield GaugeMetricFamily(
            "sidecar_config_last_reload_successful",
            "0 while the newest configuration is not used, because it has problems.",
            value=float(not metrics.reload_failed),
        )
        yield GaugeMetricFamily(
            "sidecar_config_last_reload_success_timestamp_seconds",
            "When the configuration in use was read.",
            value=metrics.reloaded,
        )
        yield _labelled(
            CounterMetricFamily,
            *("sidecar_redis_credentials_total", "Renewals of Redis' credential.", "result"),
            metrics.redis_credentials,
        )
        yield _labelled(
            GaugeMetricFamily,
            "sidecar_certificate_expiry_timestamp_seconds",
            "When a certificate of this sidecar expires, by the setting that names its file.",
            "setting",
            metrics.certificates,
        )
        yield CounterMetricFamily(
            "sidecar_access_log_dropped_total",
            "Access log lines dropped because standard output did not accept them in time.",
            value=metrics.access_log_dropped,
        )
        build = GaugeMetricFamily(
            "sidecar_build_info", "The running version; always 1.", labels=("version", "python")
        )
        build.add_metric((__version__, platform.python_version()), 1)
        yield build


def _uploads(body_buffer: BufferFigures, uploads: UploadFigures) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "sidecar_body_buffer_bytes",
        "Bytes of request bodies that are kept until they can be forwarded.",
        value=body_buffer.total,
    )
    yield _labelled(
        GaugeMetricFamily,
        "sidecar_uploads",
        "Requests with unfinished bodies that have, or wait for, an upstream connection.",
        "state",
        {"forwarded": len(uploads.admitted), "waiting": len(uploads.waiting)},
    )


def _journal(journal: JournalFigures) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "sidecar_journal_pending",
        "Logouts and other revocations that Redis has not received yet.",
        value=len(journal),
    )
    yield GaugeMetricFamily(
        "sidecar_journal_broken",
        "1 while the journal cannot be written to STATE_DIR.",
        value=float(journal.broken),
    )
    yield CounterMetricFamily(
        "sidecar_journal_dropped_total",
        "Revocations that Redis will never receive, because the journal was full.",
        value=journal.dropped,
    )


def _near_cache(near: NearCacheFigures) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "sidecar_near_cache_entries", "Logins in the near cache.", value=len(near)
    )
    yield GaugeMetricFamily(
        "sidecar_near_cache_coherent",
        "1 while invalidations arrive, so the near cache may answer without Redis.",
        value=float(near.coherent),
    )
    yield GaugeMetricFamily(
        "sidecar_near_cache_staleness_seconds",
        "Seconds since Redis was last known to report changes.",
        value=near.staleness,
    )
    yield CounterMetricFamily(
        "sidecar_near_cache_invalidations_total",
        "Invalidations received from Redis.",
        value=near.invalidations,
    )
    yield CounterMetricFamily(
        "sidecar_near_cache_flushes_total",
        "Times that every entry of the near cache became uncertain.",
        value=near.flushes,
    )


def _by_label(codes: Mapping[int, int]) -> dict[str, int]:
    """Counts by label. An upstream may send any three digits; all beyond 599 become `other`."""
    counts: dict[str, int] = defaultdict(int)
    for code, count in codes.items():
        counts[str(code) if 100 <= code <= 599 else "other"] += count
    return counts


def _labelled(
    kind: type[CounterMetricFamily | GaugeMetricFamily],
    name: str,
    text: str,
    label: str,
    values: Mapping[str, float],
) -> Metric:
    family = kind(name, text, labels=(label,))
    for value, figure in values.items():
        family.add_metric((value,), figure)
    return family


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
