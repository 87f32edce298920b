"""The composition root: settings become a running sidecar, which starts, drains and stops.

Owns the order of starting and stopping. Everything it joins is made elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import time
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from sidecar.api.admin import build_admin
from sidecar.api.app import build_api
from sidecar.api.passwords import PasswordChecker
from sidecar.api.services import Services
from sidecar.app import build
from sidecar.app.policy import Policy
from sidecar.auth.reason import Reason
from sidecar.auth.session import SessionKey
from sidecar.proxy.context import DataPlaneContext, make_request_ids
from sidecar.proxy.listener import Listener
from sidecar.proxy.session_watch import SessionWatcher
from sidecar.proxy.upstream_pool import InProcessConnector, UpstreamPool, UpstreamPoolLimits
from sidecar.settings import merge
from sidecar.tasks import Tasks, wait_any
from sidecar.telemetry.access_log import AccessLog
from sidecar.telemetry.logs import Redactor
from sidecar.telemetry.metrics import Metrics
from sidecar.wire.headers import FieldLines, HeaderKinds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.app.build import Components
    from sidecar.auth.policy import RouteTable
    from sidecar.settings import Address, Settings

logger = logging.getLogger("sidecar.app")

# Seconds for an answer of the control plane or the admin port to be taken, at the very end.
_LAST_ANSWER: Final = 0.5
# Seconds that an unused connection to the control plane is kept: with it stay a task and two files,
# and a new one costs next to nothing.
_PAIR_IDLE: Final = 2.0


class Sidecar:
    """One sidecar. `start` it in a running event loop, `stop` it in the same.

    `metrics` and `settings` are readable at any time; `port` and `admin_port` once it has started.
    Raises ConfigError with all that is wrong with the files that the settings name.
    """

    def __init__(self, settings: Settings, *, redactor: Redactor | None = None) -> None:
        self.settings = settings
        self._redactor = redactor or Redactor()
        self.metrics = Metrics(reason.label for reason in Reason)
        self._tasks = Tasks()
        self._passwords = PasswordChecker()
        parts = build.make_components(settings)
        self._policy = Policy(settings, parts)
        self.metrics.certificates = parts.expiries
        self._store = build.make_store(settings, self.metrics)
        self._began = time.monotonic()
        self._listener: Listener | None = None
        self._context: DataPlaneContext | None = None
        self._waiting: tuple[str, ...] = ()  # settings that have changed and wait for a restart
        self._access_log: AccessLog | None = None
        self._runners: list[web.AppRunner] = []
        self.port = 0
        self.admin_port = 0
        self.started = False
        self.draining = False

    def __repr__(self) -> str:
        state = "draining" if self.draining else "started" if self.started else "stopped"
        return f"<Sidecar {state} port={self.port}>"

    @property
    def degraded(self) -> bool:
        """Whether the context session store cannot be used now."""
        return bool(self.metrics.degraded)

    def status(self) -> Mapping[str, Any]:
        """Facts for operators."""
        return {
            "uptime_seconds": round(time.monotonic() - self._began, 1),
            "started": self.started,
            "draining": self.draining,
            "store": self._store.describe(),
            "breaker": self.metrics.breaker_state,
            "store_transitions": self._store.transitions,
            "upstream": str(self.settings.upstream_url),
            "routes": [route.name for route in self._policy.parts.routes.all],
            "waiting_for_restart": self._waiting,
            "connections": dict(self.metrics.connections),
            "requests_in_flight": self.metrics.in_flight,
            "tasks": len(asyncio.all_tasks()),
        }

    async def start(self) -> None:
        """Bind, build, connect, listen.

        Raises OSError for a port that is taken.
        """
        settings = self.settings
        traffic = _bind(settings.listen)
        try:
            admin = _bind(settings.admin_listen)
        except OSError:
            traffic.close()
            raise
        self.port = traffic.getsockname()[1]
        self.admin_port = admin.getsockname()[1]
        try:
            listener = await self._build()
            await self._serve_admin(admin)
            await self._store.start()
            await self._policy.start(self._tasks)
            await listener.start(traffic)
        except BaseException:
            traffic.close()
            admin.close()
            raise
        self._listener = listener
        self.started = True
        logger.info("listening", extra={"port": self.port, "admin_port": self.admin_port})

    async def reload(self, settings: Settings) -> tuple[str, ...]:
        """Go by these settings where that is possible in operation, and read all their files anew.

        Returns the names of those that have changed and wait for a restart. Raises ConfigError with
        all that is wrong; then nothing has changed.
        """
        merged, waiting = merge(self.settings, settings)
        parts = await asyncio.to_thread(build.make_components, merged)
        foreign = await self._policy.prepare(merged, parts, self._tasks)
        # From here to the end in one turn of the loop.
        self._count(parts.routes)
        self._policy.replace(merged, parts, foreign)
        self.settings, self._waiting = merged, waiting
        self.metrics.certificates = parts.expiries
        if self._context is not None:
            _replace(self._context, merged, parts)
        if self._listener is not None:
            self._listener.identify()
        return waiting

    async def stop(self, *, delay: float = 0.0, hurry: asyncio.Event | None = None) -> None:
        """Take no new work, let what runs end, and close everything.

        For `delay` seconds more, new work is still done, while whoever sends it is told to go
        elsewhere. Once `hurry` is set, nothing is waited for.
        """
        self.draining = True
        if self._listener is not None:
            logger.info("draining", extra={"delay": delay, "timeout": self.settings.drain_timeout})
            self._listener.announce()
            if delay:
                await wait_any(delay, hurry)
            await self._listener.stop(self.settings.drain_timeout, hurry)
        await self._tasks.close()
        await self._store.close()
        self._passwords.close()
        for runner in self._runners:
            await runner.cleanup()
        if self._access_log is not None:
            self._access_log.close()
        self.started = False
        logger.info("stopped")

    async def _build(self) -> Listener:
        settings = self.settings
        policy = self._policy
        services = Services(
            gate=policy.gate,
            store=self._store,
            current=policy.current,
            passwords=self._passwords,
            metrics=self.metrics,
            session_cookie=settings.session_cookie,
            session_key=SessionKey(settings.session_key),
            refresh_grace=settings.refresh_grace,
            longest=build.longest(settings),
            on_unknown_key=policy.ask,
        )
        api = web.AppRunner(
            build_api(services),
            access_log=None,
            handle_signals=False,
            auto_decompress=False,
            shutdown_timeout=_LAST_ANSWER,
        )
        await api.setup()
        self._runners.append(api)
        self._context = self._make_context(api)
        return Listener(self._context)

    def _count(self, routes: RouteTable) -> None:
        """Each has its counts before any request falls under it."""
        for each in routes.all:
            self.metrics.route(each.name)

    def _make_context(self, api: web.AppRunner) -> DataPlaneContext:
        parts, gate = self._policy.parts, self._policy.gate
        settings = self.settings
        metrics = self.metrics
        server = api.server
        if server is None:
            raise RuntimeError("the control plane has not been set up")
        answers = FieldLines(HeaderKinds.of_responses())
        upstreams = {
            "upstream": UpstreamPool(
                str(settings.upstream_url),
                parts.upstream,
                limits=build.make_upstream_pool_limits(settings),
                fields=answers,
                metrics=metrics,
                tasks=self._tasks,
            ),
            "api": UpstreamPool(
                "control plane",
                InProcessConnector(server),
                limits=UpstreamPoolLimits(connections=64, idle_timeout=_PAIR_IDLE),
                fields=answers,
                metrics=metrics,
                tasks=self._tasks,
            ),
        }
        if settings.access_log != "off":
            loop = asyncio.get_running_loop()
            self._access_log = AccessLog(
                metrics, self._redactor, loop.call_later, form=settings.log_format
            )
        live = SessionWatcher(gate, self._store, self._tasks)
        live.start()
        self._policy.on_change = live.look_again
        self._count(parts.routes)
        return DataPlaneContext(
            routes=parts.routes,
            gate=gate,
            store=self._store,
            upstreams=upstreams,
            route_metrics=metrics.routes,
            malformed=metrics.route("malformed"),
            metrics=metrics,
            tasks=self._tasks,
            log=logging.getLogger("sidecar.proxy"),
            fields=FieldLines(HeaderKinds.of_requests(parts.identity.names)),
            paths=build.make_paths(settings),
            request_ids=make_request_ids(secrets.token_hex(6).encode()),
            limits=build.make_limits(settings),
            trusted_proxies=settings.trusted_proxies,
            tls=parts.tls,
            login_url=build.login_url(settings),
            pages=build.error_pages(settings),
            access_log=self._access_log,
            log_all=settings.access_log == "all",
            on_unknown_key=self._policy.ask,
            live=live,
        )

    async def _serve_admin(self, sock: socket.socket) -> None:
        runner = web.AppRunner(
            build_admin(self.metrics, self),
            access_log=None,
            handle_signals=False,
            auto_decompress=False,
            shutdown_timeout=_LAST_ANSWER,
        )
        await runner.setup()
        self._runners.append(runner)
        await web.SockSite(runner, sock).start()


def _replace(context: DataPlaneContext, settings: Settings, parts: Components) -> None:
    context.routes = parts.routes
    context.limits = build.make_limits(settings)
    context.trusted_proxies = settings.trusted_proxies
    context.login_url = build.login_url(settings)
    context.pages = build.error_pages(settings)
    context.tls = parts.tls
    context.upstreams["upstream"].replace_connector(parts.upstream)
    if context.live is not None:
        context.live.replace_routes(parts.routes)


def _bind(address: Address) -> socket.socket:
    """A bound socket. Raises OSError with the address in its text."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address.host, address.port))
    except OSError as error:
        sock.close()
        raise OSError(error.errno, error.strerror, str(address)) from error
    sock.setblocking(False)
    return sock
