"""The admin plane: metrics, probes and a status page for operators, on a separate port.

Reads counters and health, which others own. Shows no secret and changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from aiohttp import web

from sidecar import __version__
from sidecar.api.problems import RETRY_AFTER, json_response, problem_middleware
from sidecar.telemetry.exposition import render

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.typedefs import Handler

    from sidecar.telemetry.metrics import Metrics


class Health(Protocol):
    """The state of the whole process, as the composition root knows it."""

    @property
    def started(self) -> bool:
        """Whether traffic is served: configuration, keys and listeners are in place."""

    @property
    def draining(self) -> bool:
        """Whether the process is stopping and accepts no new work."""

    @property
    def degraded(self) -> bool:
        """Whether the shared session store is unusable, and local memory is used instead."""

    def status(self) -> Mapping[str, Any]:
        """Uptime, store, breaker, routes and more, as JSON types; no secrets."""


_METRICS: Final[web.AppKey[Metrics]] = web.AppKey("metrics")
_HEALTH: Final[web.AppKey[Health]] = web.AppKey("health")


def build_admin(metrics: Metrics, health: Health) -> web.Application:
    """The admin plane's application: `/metrics`, `/livez`, `/readyz`, `/status`."""
    app = web.Application(middlewares=[_close_after, problem_middleware], client_max_size=1024)
    app[_METRICS] = metrics
    app[_HEALTH] = health
    app.router.add_get("/metrics", scrape)
    app.router.add_get("/livez", live)
    app.router.add_get("/readyz", ready)
    app.router.add_get("/status", status)
    return app


@web.middleware
async def _close_after(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Serve one request on each connection.

    It is a pair of sockets within this process (`app.admin_port`). The client's own connection
    stays open, and between two probes no file does.
    """
    response = await handler(request)
    response.force_close()
    return response


async def scrape(request: web.Request) -> web.Response:
    """Every metric in the format of Prometheus."""
    body, content_type = render(request.app[_METRICS])
    return web.Response(body=body, headers={"Content-Type": content_type})


async def live(_: web.Request) -> web.Response:
    """200 while the event loop runs. A restart would repair nothing else."""
    return json_response({"status": "alive"})


async def ready(request: web.Request) -> web.Response:
    """200 if traffic may be sent. A lost session store changes only `degraded`."""
    health = request.app[_HEALTH]
    state = "draining" if health.draining else "ready" if health.started else "starting"
    body = {"status": state, "degraded": health.degraded}
    if state == "ready":
        return json_response(body)
    return json_response(body, status=503, headers={"Retry-After": RETRY_AFTER})


async def status(request: web.Request) -> web.Response:
    """The state of this process for operators, beginning with its version."""
    health = request.app[_HEALTH]
    return json_response({"version": __version__, "degraded": health.degraded, **health.status()})
