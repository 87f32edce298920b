"""The admin port: the admin application behind the time limits and bounds of a data plane.

aiohttp limits neither the time for a head nor the number of connections nor slow readers. The data
plane does; so this port has one of its own, with a single public route. What it counts is not
shown: the metrics are about traffic.
"""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Final

from sidecar.api.admin import build_admin
from sidecar.api.serving import Runner
from sidecar.app import build
from sidecar.auth.route_rule import Access, RouteRule
from sidecar.auth.routes import RouteTable
from sidecar.proxy.connectors import InProcessConnector
from sidecar.proxy.context import DataPlaneConfig, DataPlaneContext, Limits, make_request_ids
from sidecar.proxy.listener import Listener
from sidecar.proxy.upstream_pool import UpstreamPool, UpstreamPoolLimits
from sidecar.tasks import Tasks
from sidecar.telemetry.metrics import Metrics
from sidecar.wire.field_lines import FieldLines
from sidecar.wire.header_kinds import HeaderKinds

if TYPE_CHECKING:
    import socket

    from sidecar.api.admin import Health
    from sidecar.auth.gate import Gate
    from sidecar.sessions.store import SessionStore
    from sidecar.settings import Settings

# More than probes, two Prometheus servers and a few people need. A new client is always let in: the
# connection that has waited longest for its client is closed instead.
CONNECTIONS: Final = 64
_BODY_SIZE: Final = 1024  # octets; no request to this port needs a body
_LEASED: Final = 8  # connections to the application at once
_PAIR_IDLE: Final = 2.0  # seconds that an unused one is kept
_LAST_ANSWERS: Final = 0.5  # seconds at the very end
_ROUTES: Final = RouteTable(
    [RouteRule(path="/*", access=Access.PUBLIC, target="api", name="admin")]
)


class AdminPort:
    """Serves metrics, probes and status, from `start` to `stop`.

    `gate` and `store` complete the data plane; its public route never asks them.
    """

    __slots__ = ("_context", "_gate", "_listener", "_runner", "_store", "_tasks")

    def __init__(
        self, settings: Settings, metrics: Metrics, health: Health, gate: Gate, store: SessionStore
    ) -> None:
        self._gate = gate
        self._store = store
        self._runner = Runner(build_admin(metrics, health), build.make_head_limits(settings))
        self._tasks = Tasks()
        self._context: DataPlaneContext | None = None
        self._listener: Listener | None = None

    def __repr__(self) -> str:
        return f"<AdminPort {self._listener!r}>"

    async def start(self, sock: socket.socket, settings: Settings) -> None:
        """Serve on a bound socket."""
        await self._runner.setup()
        context = self._context = self._make_context(settings)
        self._listener = Listener(context)
        await self._listener.start(sock)

    def apply(self, settings: Settings) -> None:
        """Use the limits of new settings."""
        if self._context is not None:
            self._context.apply(make_admin_config(settings))

    async def stop(self) -> None:
        """Close the port, after the answers in progress."""
        if self._listener is not None:
            await self._listener.stop(_LAST_ANSWERS)
        await self._tasks.close()
        await self._runner.cleanup()

    def _make_context(self, settings: Settings) -> DataPlaneContext:
        server = self._runner.server
        if server is None:
            raise RuntimeError("the admin application has not been set up")
        metrics = Metrics()
        pool = UpstreamPool(
            "admin plane",
            InProcessConnector(server),
            limits=UpstreamPoolLimits(connections=_LEASED, idle_timeout=_PAIR_IDLE),
            fields=FieldLines(HeaderKinds.of_responses()),
            metrics=metrics,
            tasks=self._tasks,
        )
        return DataPlaneContext(
            make_admin_config(settings),
            gate=self._gate,
            store=self._store,
            upstreams={"api": pool},
            route_metrics={each.name: metrics.route(each.name) for each in _ROUTES.all},
            malformed=metrics.route("malformed"),
            metrics=metrics,
            tasks=self._tasks,
            log=logging.getLogger("sidecar.admin"),
            fields=FieldLines(HeaderKinds.of_requests(())),
            paths=build.make_paths(settings),
            verify=build.make_verify_endpoint(settings),
            request_ids=make_request_ids(secrets.token_hex(6).encode()),
        )


def make_admin_config(settings: Settings) -> DataPlaneConfig:
    """The limits of this port: those of the traffic port where they are about one client."""
    return DataPlaneConfig(
        routes=_ROUTES,
        limits=Limits(
            head=build.make_head_limits(settings),
            header_timeout=settings.header_timeout,
            idle_timeout=settings.idle_timeout,
            connections=CONNECTIONS,
            per_address=0,
            makes_room=True,
            form_size=_BODY_SIZE,
            form_timeout=settings.header_timeout,
            send_rate=settings.min_send_rate,
        ),
    )
