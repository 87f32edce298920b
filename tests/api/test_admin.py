"""The admin port: health endpoints that do not depend on the session store, metrics and status."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sidecar import __version__
from sidecar.api.admin import build_admin
from sidecar.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web
    from aiohttp.test_utils import TestClient
    from pytest_aiohttp import AiohttpClient

    Client = TestClient[web.Request, web.Application]


@dataclass
class SetHealth:
    """A health source whose values the test sets."""

    started: bool = True
    draining: bool = False
    degraded: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    def status(self) -> Mapping[str, Any]:
        """Return the facts that the test has set."""
        return self.facts


@pytest.fixture
def health() -> SetHealth:
    """The health of a process that works normally."""
    return SetHealth()


@pytest.fixture
def metrics() -> Metrics:
    """Metrics in which nothing has been counted yet."""
    return Metrics()


@pytest.fixture
async def client(aiohttp_client: AiohttpClient, metrics: Metrics, health: SetHealth) -> Client:
    """A client of the admin application."""
    return await aiohttp_client(build_admin(metrics, health))


@pytest.mark.parametrize(
    ("started", "draining", "degraded", "status", "word"),
    [
        pytest.param(True, False, False, 200, "ready", id="ready"),
        pytest.param(True, False, True, 200, "ready", id="degraded-is-ready"),
        pytest.param(False, False, False, 503, "starting", id="starting"),
        pytest.param(True, True, False, 503, "draining", id="draining"),
        pytest.param(True, True, True, 503, "draining", id="draining-degraded"),
    ],
)
async def test_readyz(
    client: Client,
    health: SetHealth,
    *,
    started: bool,
    draining: bool,
    degraded: bool,
    status: int,
    word: str,
) -> None:
    """`/readyz` is 200 between start and drain, even if degraded; the body states the condition."""
    health.started, health.draining, health.degraded = started, draining, degraded
    answer = await client.get("/readyz")
    assert answer.status == status
    assert await answer.json() == {"status": word, "degraded": degraded}
    assert ("Retry-After" in answer.headers) is (status == 503)


async def test_livez_stays(client: Client, health: SetHealth) -> None:
    """`/livez` stays 200 while the process drains, because a restart would not help."""
    health.started, health.draining = False, True
    answer = await client.get("/livez")
    assert (answer.status, await answer.json()) == (200, {"status": "alive"})


async def test_metrics(client: Client, metrics: Metrics) -> None:
    """`/metrics` is valid Prometheus text and contains what was counted."""
    metrics.logins["password", "success"] += 3
    answer = await client.get("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(await answer.text())
        for sample in family.samples
    }
    assert samples["sidecar_logins_total", "password", "success"] == 3


async def test_status(client: Client, health: SetHealth) -> None:
    """`/status` returns the version and the facts that the process reports."""
    health.facts = {"uptime_seconds": 12.5, "routes": ["a", "default"]}
    health.degraded = True
    answer = await client.get("/status")
    assert await answer.json() == {
        "version": __version__,
        "degraded": True,
        "uptime_seconds": 12.5,
        "routes": ["a", "default"],
    }


async def test_nothing_else(client: Client) -> None:
    """Unknown paths and wrong methods are answered with problem documents."""
    assert (await client.get("/auth/login")).status == 404
    answer = await client.post("/metrics")
    assert answer.status == 405
    assert answer.content_type == "application/problem+json"


async def test_its_errors_lead_to_no_sign_in_page(client: Client) -> None:
    """An error page on the admin port has no link, because there is no sign-in on this port."""
    answer = await client.get("/nothing", headers={"Accept": "text/html"})
    page = await answer.text()
    assert (answer.status, answer.content_type) == (404, "text/html")
    assert "<a " not in page
