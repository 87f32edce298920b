"""Alerts, scrape configuration and dashboard: the real tools accept them, and all metrics exist."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from sidecar.api import login, refresh
from sidecar.auth.reason import Reason
from sidecar.auth.session import Unreadable
from sidecar.telemetry.exposition import MetricsCollector, render
from sidecar.telemetry.metrics import Metrics
from tests.deploy.manifests import ROOT
from tests.peers.all_metrics import all_metrics
from tests.peers.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CONFIG: Final = ROOT / "config"
TESTS: Final = Path(__file__).parent / "alerts.test.yaml"
# Labels that the scrape configuration sets.
TARGET_LABELS: Final = {"job", "instance", "namespace", "app", "pod"}
# The metrics of redis_exporter that are used, and the fields of INFO from which it makes them;
# maxclients is a directive.
OF_REDIS: Final = {
    "redis_client_output_buffer_limit_disconnections_total": (
        "client_output_buffer_limit_disconnections"
    ),
    "redis_config_maxclients": "maxclients",
    "redis_connected_clients": "connected_clients",
    "redis_cpu_sys_main_thread_seconds_total": "used_cpu_sys_main_thread",
    "redis_cpu_user_main_thread_seconds_total": "used_cpu_user_main_thread",
    "redis_rejected_connections_total": "rejected_connections",
    "redis_tracking_total_items": "tracking_total_items",
    "redis_tracking_total_keys": "tracking_total_keys",
}
NAME: Final = re.compile(r"\b(?:sidecar|process)_[a-z0-9_]+\b")
SELECTOR: Final = re.compile(r"\b((?:sidecar|process)_[a-z0-9_]+)\{([^}]*)\}")

needs_promtool = pytest.mark.needs("promtool")


def _promtool(*arguments: str, stdin: str = "") -> None:
    done = subprocess.run(
        ["promtool", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _metrics() -> Metrics:
    """Metrics in which everything has been counted once."""
    metrics = all_metrics(reason.label for reason in Reason)
    route = metrics.route("orders")
    route.codes[200] = 1
    route.duration.observe(0.01)
    route.upstream.observe(0.01)
    metrics.lookups["redis", "hit"] = 1
    metrics.lookup_duration["redis"].observe(0.001)
    metrics.logins["password", "success"] = 1
    metrics.certificates = {"tls_cert_file": 1.8e9}
    return metrics


def _samples() -> dict[str, set[str]]:
    """The name and labels of each sample, of the sidecar's and the process's metrics."""
    found: dict[str, set[str]] = {}
    for line in render(_metrics())[0].decode().splitlines():
        if line and line[0] != "#":
            name, _, labels = line.rpartition(" ")[0].partition("{")
            found[name] = set(re.findall(r'(\w+)="', labels))
    return found


def _rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((CONFIG / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _dashboard_expressions() -> Iterator[str]:
    dashboard = json.loads((CONFIG / "grafana-dashboard.json").read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    for variable in dashboard["templating"]["list"]:
        yield str(variable["query"])


@needs_promtool
def test_rules_are_valid() -> None:
    """promtool accepts all alerting rules."""
    _promtool("check", "rules", str(CONFIG / "alerts.yaml"))


@needs_promtool
def test_alerts_fire_and_stay_silent_as_they_should() -> None:
    """The unit tests of the alerting rules pass."""
    _promtool("test", "rules", str(TESTS))


def test_every_alert_is_tried() -> None:
    """The unit tests show that each alert fires, and that a healthy pod triggers no alert."""
    healthy, *others = yaml.safe_load(TESTS.read_text())["tests"]
    rules = [rule["alert"] for rule in _rules()]
    names = set(rules)
    assert len(rules) == len(names), "two alerts have one name"
    assert {test["alertname"] for test in healthy["alert_rule_test"]} == names
    fired = {
        test["alertname"]
        for one in others
        for test in one["alert_rule_test"]
        if test.get("exp_alerts")
    }
    assert fired == names


@needs_promtool
def test_scrape_configuration() -> None:
    """promtool accepts the scrape configuration and the rules that it refers to."""
    _promtool("check", "config", str(CONFIG / "prometheus.yml"))


@needs_promtool
def test_scrape_configuration_for_kubernetes(tmp_path: Path) -> None:
    """promtool accepts the one for Kubernetes, with file discovery in place of kubernetes_sd."""
    text = (CONFIG / "prometheus-kubernetes.yml").read_text()
    discovery = re.compile(r"kubernetes_sd_configs:\n +- role: pod.*")
    assert len(discovery.findall(text)) == 1
    (tmp_path / "targets.json").write_text("[]")
    (tmp_path / "alerts.yaml").write_text((CONFIG / "alerts.yaml").read_text())
    changed = discovery.sub("file_sd_configs:\n      - files: [targets.json]", text)
    (tmp_path / "prometheus.yml").write_text(changed)
    _promtool("check", "config", str(tmp_path / "prometheus.yml"))


@needs_promtool
def test_metrics_are_well_formed() -> None:
    """promtool accepts the names and types of the sidecar's own metrics."""
    text = render(_metrics())[0].decode()
    ours = re.compile(r"(# (HELP|TYPE) )?sidecar_")
    kept = [line for line in text.splitlines(keepends=True) if ours.match(line)]
    _promtool("check", "metrics", stdin="".join(kept))


def _unknown(expressions: Iterable[str]) -> list[str]:
    samples = _samples()
    families = samples.keys() - {"sidecar"}
    problems = []
    for expression in expressions:
        problems += [name for name in NAME.findall(expression) if name not in families]
        for name, labels in SELECTOR.findall(expression):
            used = set(re.findall(r"(\w+)\s*[=!]", labels))
            problems += [f"{name}: {label}" for label in used - samples[name] - TARGET_LABELS]
    return problems


def test_alerts_are_about_metrics_that_exist() -> None:
    """All metrics and labels in the alerts exist."""
    assert not _unknown(rule["expr"] for rule in _rules())


def test_alerts_are_about_values_that_exist() -> None:
    """All label values in the alerts are values that the sidecar uses."""
    known = {*login.Method, *login.Result, *refresh.Result, refresh.METHOD}
    known |= {*Unreadable, *Metrics().transitions, *Metrics().redis_credentials}
    known |= {"deny", "redis", "auth-sidecar", "502", "503", "504", "waiting"}
    texts = [text for rule in _rules() for text in re.findall(r'=~?"([^"]+)"', rule["expr"])]
    named = {value for text in texts for value in text.split("|")}
    assert named
    assert named - known == set()


def test_dashboard_is_about_metrics_that_exist() -> None:
    """All metrics and labels in the dashboard exist."""
    assert len(list(_dashboard_expressions())) > 20
    assert not _unknown(_dashboard_expressions())


def test_metrics_of_redis_exist() -> None:
    """Alerts and dashboard use metrics that are listed above, and Redis has a field for each."""
    expressions = [*(rule["expr"] for rule in _rules()), *_dashboard_expressions()]
    used = {name for each in expressions for name in re.findall(r"\bredis_[a-z_]+\b", each)}
    assert used == OF_REDIS.keys()
    with RedisServer() as server:
        found = server.admin.info("everything") | server.admin.config_get("maxclients")
    fields = set(OF_REDIS.values())
    # A Redis before 7.2 has no counter of its closed connections.
    assert fields - found.keys() <= {"client_output_buffer_limit_disconnections"}


def test_an_unknown_metric_would_be_found() -> None:
    """The check that the tests above rely on reports unknown metrics and labels."""
    assert _unknown(["rate(sidecar_request_total[5m])"]) == ["sidecar_request_total"]
    assert _unknown(['sidecar_degraded{pode="a"}']) == ["sidecar_degraded: pode"]


def test_dashboard_shows_every_metric() -> None:
    """The dashboard shows every metric of the sidecar."""
    shown = {name for expression in _dashboard_expressions() for name in NAME.findall(expression)}
    families = {family.name for family in MetricsCollector(_metrics()).collect()}
    suffixes = ("", "_total", "_bucket")
    assert [f for f in families if not any(f + suffix in shown for suffix in suffixes)] == []


def test_dashboard_panels_do_not_overlap() -> None:
    """Panels have unique ids and do not overlap within the 24 columns."""
    panels = json.loads((CONFIG / "grafana-dashboard.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        columns = range(place["x"], place["x"] + place["w"])
        cells = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
        assert columns.stop <= 24
        assert not cells & taken
        taken |= cells


def test_every_alert_has_a_runbook() -> None:
    """The runbook of each alert is a heading of docs/operating.md."""
    lines = (ROOT / "docs/operating.md").read_text().splitlines()
    headings = [line.lstrip("# ") for line in lines if line.startswith("#")]
    anchors = {re.sub(r"[^\w\- ]", "", text).lower().replace(" ", "-") for text in headings}
    for rule in _rules():
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert page == "docs/operating.md"
        assert anchor in anchors, rule["alert"]
