"""The admin plane: metrics, probes and a status page for operators, on a port of its own.

Reads counters and health and owns neither. It shows no secret and changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from aiohttp import web

from sidecar import __version__
from sidecar.api.problems import RETRY_AFTER, json_response, problem_middleware
from sidecar.telemetry.exposition import render

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.telemetry.metrics import Metrics


class Health(Protocol):
    """What the composition root knows of the whole process."""

    @property
    def started(self) -> bool:
        """Traffic can be served: configuration, keys and listeners are in place."""

    @property
    def draining(self) -> bool:
        """The process was told to stop and takes no new work."""

    @property
    def degraded(self) -> bool:
        """The shared session store cannot be used; local memory stands in for it."""

    def status(self) -> Mapping[str, Any]:
        """Facts for operators, as JSON types: uptime, store, breaker, routes; no secrets."""


_METRICS: Final[web.AppKey[Metrics]] = web.AppKey("metrics")
_HEALTH: Final[web.AppKey[Health]] = web.AppKey("health")


def build_admin(metrics: Metrics, health: Health) -> web.Application:
    """The admin plane's application: `/metrics`, `/livez`, `/readyz`, `/status`."""
    app = web.Application(middlewares=[problem_middleware], client_max_size=1024)
    app[_METRICS] = metrics
    app[_HEALTH] = health
    app.router.add_get("/metrics", scrape)
    app.router.add_get("/livez", live)
    app.router.add_get("/readyz", ready)
    app.router.add_get("/status", status)
    return app


async def scrape(request: web.Request) -> web.Response:
    """Every metric, as Prometheus reads it."""
    body, content_type = render(request.app[_METRICS])
    return web.Response(body=body, headers={"Content-Type": content_type})


async def live(_: web.Request) -> web.Response:
    """200 while the event loop turns; a restart cures nothing else."""
    return json_response({"status": "alive"})


async def ready(request: web.Request) -> web.Response:
    """200 when traffic may come. A lost session store degrades, it does not take the pod out."""
    health = request.app[_HEALTH]
    word = "draining" if health.draining else "ready" if health.started else "starting"
    body = {"status": word, "degraded": health.degraded}
    if word == "ready":
        return json_response(body)
    return json_response(body, status=503, headers={"Retry-After": RETRY_AFTER})


async def status(request: web.Request) -> web.Response:
    """What an operator asks first."""
    health = request.app[_HEALTH]
    return json_response({"version": __version__, "degraded": health.degraded, **health.status()})
