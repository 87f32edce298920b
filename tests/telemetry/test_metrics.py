"""Tests of `sidecar.telemetry.metrics` and of the text that Prometheus scrapes."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from sidecar.sessions.tiered.breaker import State
from sidecar.telemetry.exposition import render
from sidecar.telemetry.metrics import BOUNDS, Histogram, Metrics
from tests.peers.all_metrics import all_metrics

NAMES = {
    "sidecar_requests_total": "counter",
    "sidecar_request_duration_seconds": "histogram",
    "sidecar_upstream_duration_seconds": "histogram",
    "sidecar_decisions_total": "counter",
    "sidecar_malformed_total": "counter",
    "sidecar_session_lookups_total": "counter",
    "sidecar_session_lookup_duration_seconds": "histogram",
    "sidecar_degraded": "gauge",
    "sidecar_breaker_state": "gauge",
    "sidecar_degraded_transitions_total": "counter",
    "sidecar_near_cache_entries": "gauge",
    "sidecar_near_cache_coherent": "gauge",
    "sidecar_near_cache_staleness_seconds": "gauge",
    "sidecar_near_cache_invalidations_total": "counter",
    "sidecar_near_cache_flushes_total": "counter",
    "sidecar_journal_pending": "gauge",
    "sidecar_journal_broken": "gauge",
    "sidecar_journal_dropped_total": "counter",
    "sidecar_logins_total": "counter",
    "sidecar_requests_in_flight": "gauge",
    "sidecar_connections": "gauge",
    "sidecar_clients_refused_total": "counter",
    "sidecar_body_buffer_bytes": "gauge",
    "sidecar_uploads": "gauge",
    "sidecar_config_reloads_total": "counter",
    "sidecar_config_last_reload_successful": "gauge",
    "sidecar_config_last_reload_success_timestamp_seconds": "gauge",
    "sidecar_tls_handshakes_total": "counter",
    "sidecar_redis_credentials_total": "counter",
    "sidecar_certificate_expiry_timestamp_seconds": "gauge",
    "sidecar_access_log_dropped_total": "counter",
    "sidecar_build_info": "gauge",
}


def used() -> Metrics:
    """Metrics in which everything was counted at least once."""
    metrics = all_metrics(reasons=("expired", "signature"))
    route = metrics.route("api")
    route.codes[200] += 1
    route.duration.observe(0.003)
    route.upstream.observe(0.002)
    metrics.allowed += 3
    metrics.preflights += 2
    metrics.denied["expired"] += 1
    metrics.lookups["redis", "hit"] += 1
    metrics.lookup_duration["redis"].observe(0.0002)
    metrics.logins["password", "ok"] += 1
    metrics.connections["downstream"] += 1
    metrics.redis_credentials["refused"] += 1
    metrics.certificates = {"tls_cert_file": 1.8e9}
    return metrics


def samples(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """All samples of the scraped text, by name and by label values in order."""
    text, _ = render(metrics)
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_the_names_and_types_are_those_of_the_documentation() -> None:
    """Metric names and types are the documented ones, which dashboards and alerts rely on."""
    text = render(used())[0].decode()
    types = dict(
        line.split()[2:] for line in text.splitlines() if line.startswith("# TYPE sidecar_")
    )
    assert types == NAMES


@pytest.mark.parametrize(
    "metrics", [pytest.param(Metrics(), id="unused"), pytest.param(used(), id="used")]
)
@pytest.mark.needs("promtool")
def test_promtool_accepts_the_text(metrics: Metrics) -> None:
    """`promtool check metrics` finds no problem in the text."""
    text, _ = render(metrics)
    check = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (check.returncode, check.stderr, check.stdout) == (0, b"", b"")


def test_the_content_type_is_that_of_the_text_format() -> None:
    """The content type is that of the text format, which all Prometheus versions since 1.0 read."""
    assert render(Metrics())[1] == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize(
    ("sample", "value"),
    [
        pytest.param(("sidecar_requests_total", ("200", "api")), 1, id="requests"),
        pytest.param(("sidecar_request_duration_seconds_count", ("api",)), 1, id="duration"),
        pytest.param(("sidecar_request_duration_seconds_sum", ("api",)), 0.003, id="sum"),
        pytest.param(("sidecar_upstream_duration_seconds_sum", ("api",)), 0.002, id="upstream"),
        pytest.param(("sidecar_decisions_total", ("allow", "none")), 1, id="allowed"),
        pytest.param(("sidecar_decisions_total", ("allow", "preflight")), 2, id="preflights"),
        pytest.param(("sidecar_decisions_total", ("deny", "expired")), 1, id="denied"),
        pytest.param(("sidecar_decisions_total", ("deny", "signature")), 0, id="starts at zero"),
        pytest.param(("sidecar_session_lookups_total", ("hit", "redis")), 1, id="lookups"),
        pytest.param(("sidecar_logins_total", ("password", "ok")), 1, id="logins"),
        pytest.param(("sidecar_redis_credentials_total", ("refused",)), 1, id="credentials"),
        pytest.param(("sidecar_connections", ("downstream",)), 1, id="downstream"),
        pytest.param(("sidecar_connections", ("upstream",)), 0, id="upstream connections"),
    ],
)
def test_what_was_counted_is_shown(sample: tuple[str, tuple[str, ...]], value: float) -> None:
    """Each counter appears with its name, labels and value."""
    assert samples(used())[sample] == value


def test_gauges_follow_their_fields() -> None:
    """Gauges show the current state of the store, the breaker and the requests."""
    metrics = Metrics(breaker_states=State)
    metrics.degraded, metrics.breaker_state, metrics.in_flight = 1, "half-open", 7
    metrics.access_log_dropped = 3
    shown = samples(metrics)
    assert shown["sidecar_degraded", ()] == 1
    assert shown["sidecar_requests_in_flight", ()] == 7
    assert shown["sidecar_access_log_dropped_total", ()] == 3
    states = {state: shown["sidecar_breaker_state", (state,)] for state in State}
    assert states == {"closed": 0, "open": 0, "half-open": 1}


def test_this_process_shows_its_own_figures() -> None:
    """The text includes memory, CPU and file descriptors of the process."""
    shown = samples(Metrics())
    assert shown["process_resident_memory_bytes", ()] > 1_000_000
    assert shown["process_open_fds", ()] > 0
    assert any(name == "python_info" for name, _ in shown)


def test_odd_status_codes_share_one_label() -> None:
    """Invalid status codes of an upstream share one label value."""
    metrics = Metrics()
    for code in (600, 777, 999):
        metrics.route("api").codes[code] += 1
    assert samples(metrics)["sidecar_requests_total", ("other", "api")] == 3


def test_a_route_name_is_escaped() -> None:
    """A route name with quotes, backslashes and line ends is escaped correctly."""
    metrics = Metrics()
    metrics.route('a"b\\c\nd').codes[200] += 1
    assert samples(metrics)["sidecar_requests_total", ("200", 'a"b\\c\nd')] == 1


def test_a_route_keeps_its_counts() -> None:
    """The metrics of a route are the same object after a reload."""
    metrics = Metrics()
    assert metrics.route("api") is metrics.route("api")
    assert [route.name for route in metrics.routes.values()] == ["api"]


def test_the_global_registry_is_left_alone() -> None:
    """Metrics are not registered in the global registry of prometheus_client."""
    before = list(REGISTRY.collect())
    render(Metrics())
    assert [family.name for family in REGISTRY.collect()] == [family.name for family in before]


@pytest.mark.parametrize(
    ("seconds", "le"),
    [
        pytest.param(0.0, "0.0001", id="zero"),
        pytest.param(0.0001, "0.0001", id="on a bound"),
        pytest.param(0.00011, "0.00025", id="just above"),
        pytest.param(10.0, "10.0", id="the last bound"),
        pytest.param(11.0, "+Inf", id="longer than all"),
    ],
)
def test_a_duration_falls_into_its_bucket(seconds: float, le: str) -> None:
    """A duration equal to a bound is counted in the bucket of that bound."""
    histogram = Histogram()
    histogram.observe(seconds)
    assert next(bound for bound, count in histogram.buckets() if count) == le


@given(st.lists(st.floats(min_value=0, max_value=20)))
def test_buckets_are_cumulative(durations: list[float]) -> None:
    """Each bucket counts exactly the durations up to its bound."""
    histogram = Histogram()
    for seconds in durations:
        histogram.observe(seconds)
    *bounded, (_, total) = histogram.buckets()
    assert [count for _, count in bounded] == [
        sum(seconds <= bound for seconds in durations) for bound in BOUNDS
    ]
    assert total == len(durations)
    assert histogram.total == pytest.approx(sum(durations))


def test_the_state_is_in_the_repr() -> None:
    """The `repr` of each object shows what was counted."""
    metrics = used()
    assert repr(metrics) == "<Metrics 3 allowed, 1 denied, 0 in flight>"
    assert repr(metrics.route("api")) == "<RouteMetrics api 1 requests>"
    assert repr(metrics.route("api").duration) == "<Histogram 1 observed, 0.003000 s>"
