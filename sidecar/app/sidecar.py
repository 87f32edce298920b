"""The composition root: turns settings into a running sidecar, which starts, reloads and stops.

Owns the order of these steps. The components that it connects are made in `app.build`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import time
from typing import TYPE_CHECKING, Any, Final

from sidecar.api.app import build_api
from sidecar.api.passwords import PasswordChecker
from sidecar.api.services import Services
from sidecar.api.serving import Runner
from sidecar.api.slow_lane import SlowLane
from sidecar.app import build
from sidecar.app.admin_port import AdminPort
from sidecar.app.trust import Trust, end_logins
from sidecar.auth.credentials import CredentialFilter
from sidecar.auth.reason import Reason
from sidecar.auth.session import SessionKey
from sidecar.proxy.connectors import InProcessConnector
from sidecar.proxy.context import DataPlaneContext, make_request_ids
from sidecar.proxy.listener import Listener
from sidecar.proxy.session_watch import SessionWatcher
from sidecar.proxy.upstream_pool import UpstreamPool, UpstreamPoolLimits
from sidecar.sessions.tiered.breaker import State as BreakerState
from sidecar.settings import merge
from sidecar.tasks import Tasks, wait_any
from sidecar.telemetry.access_log import AccessLog
from sidecar.telemetry.logs import Redactor
from sidecar.telemetry.metrics import Metrics
from sidecar.wire.field_lines import FieldLines
from sidecar.wire.header_kinds import HeaderKinds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiohttp import web

    from sidecar.auth.routes import RouteTable
    from sidecar.errors import ConfigWarning
    from sidecar.settings import Address, Settings

logger = logging.getLogger("sidecar.app")

# Seconds that an unused connection to the control plane is kept. Each holds a task and two file
# descriptors, and a new one costs almost nothing.
_PAIR_IDLE: Final = 2.0


class Sidecar:
    """One sidecar. `start` it in a running event loop, and `stop` it in the same loop.

    `metrics` and `settings` are readable at any time, `port` and `admin_port` after `start`. Raises
    ConfigError with every problem of the settings and of the files that they name.
    """

    def __init__(self, settings: Settings, *, redactor: Redactor | None = None) -> None:
        self.settings = settings
        self._redactor = redactor or Redactor()
        self.metrics = Metrics((reason.label for reason in Reason), BreakerState)
        self._tasks = Tasks()
        self._passwords = PasswordChecker()
        components = build.make_components(settings)
        self.trust = Trust(settings, components)
        self.metrics.certificates = components.expiries
        self._mac = build.make_value_mac(settings)
        self._redis_credentials = build.make_redis_credentials(settings, self.metrics)
        self._store = build.make_store(settings, self.metrics, self._mac, self._redis_credentials)
        self._guesses, self._guess_counters = build.make_guess_defence(
            settings, self._mac, self._redis_credentials
        )
        self._started_at = time.monotonic()
        self._listener: Listener | None = None
        self.context: DataPlaneContext | None = None
        self._waiting: tuple[str, ...] = ()  # changed settings that need a restart
        self._access_log: AccessLog | None = None
        self._api: Runner | None = None
        self._admin = AdminPort(settings, self.metrics, self, self.trust.gate, self._store)
        self.port = 0
        self.admin_port = 0
        self.started = False
        self.draining = False

    def __repr__(self) -> str:
        state = "draining" if self.draining else "started" if self.started else "stopped"
        return f"<Sidecar {state} port={self.port}>"

    @property
    def degraded(self) -> bool:
        """Whether the shared session store is unusable now."""
        return bool(self.metrics.degraded)

    def status(self) -> Mapping[str, Any]:
        """The state of this process for operators, as JSON types; without secrets."""
        credentials = self._redis_credentials
        return {
            "uptime_seconds": round(time.monotonic() - self._started_at, 1),
            "started": self.started,
            "draining": self.draining,
            "realm": self._mac.realm,
            "store": self._store.describe(),
            "redis_credential": credentials and credentials.describe(),
            "breaker": self.metrics.breaker_state,
            "store_transitions": self._store.transitions,
            "upstream": str(self.settings.upstream_url),
            "routes": [route.name for route in self.trust.components.routes.all],
            "waiting_for_restart": self._waiting,
            "connections": dict(self.metrics.connections),
            "requests_in_flight": self.metrics.in_flight,
            "tasks": len(asyncio.all_tasks()),
        }

    def warnings(self) -> Sequence[ConfigWarning]:
        """What in the configuration in use is valid but hardly meant; nothing is logged here."""
        return build.config_warnings(self.settings, self.trust.components, time.time())

    async def start(self) -> None:
        """Bind the ports, start store and key fetching, then serve.

        Raises OSError if a port is taken.
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
            await self._admin.start(admin, settings)
            if self._redis_credentials is not None:
                await self._redis_credentials.start(self._tasks)
            await self._store.start()
            await self.trust.start(self._tasks)
            await listener.start(traffic)
        except BaseException:
            traffic.close()
            admin.close()
            raise
        self._listener = listener
        self.started = True
        most = listener.limit
        if most != settings.max_connections:
            logger.info("max_connections is lowered to what open files allow", extra={"to": most})
        logger.info("listening", extra={"port": self.port, "admin_port": self.admin_port})

    async def reload(self, settings: Settings) -> tuple[str, ...]:
        """Apply new settings as far as a reload can, and read all files again.

        Returns the names of changed settings that need a restart. Raises ConfigError with every
        problem; then nothing has changed.
        """
        merged, waiting = merge(self.settings, settings)
        components = await asyncio.to_thread(build.make_components, merged)
        config = build.make_data_plane_config(merged, components)
        foreign = await self.trust.prepare(merged, components, self._tasks)
        # From here to the end without an `await`, so that no request sees a mixture.
        # `replace` is first because it may raise.
        before = self.trust.current.users
        self.trust.replace(merged, components, foreign)
        self._mac.replace_secrets(build.refresh_secrets(merged))
        self._count_routes(components.routes)
        self.settings, self._waiting = merged, waiting
        self.metrics.certificates = components.expiries
        if self.context is not None:
            self.context.apply(config)
            self.context.upstreams["upstream"].replace_connector(components.upstream)
            if self.context.session_watcher is not None:
                self.context.session_watcher.replace_routes(components.routes)
        if self._listener is not None:
            self._listener.identify()
        self._admin.apply(merged)
        gone = before.ended_by(self.trust.current.users)
        if gone and self.started:
            self._tasks.spawn(end_logins(self._store, gone), "end of users' logins")
        return waiting

    async def stop(self, *, delay: float = 0.0, hurry: asyncio.Event | None = None) -> None:
        """Drain: accept no more connections, let running requests finish, then close everything.

        For the first `delay` seconds new requests are still served, with answers that tell clients
        to connect elsewhere. Setting `hurry` ends all waiting.
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
        if self._guess_counters is not None:
            await self._guess_counters.close()
        self._passwords.close()
        await self._admin.stop()
        if self._api is not None:
            await self._api.cleanup()
        if self._access_log is not None:
            self._access_log.close()
        self.started = False
        logger.info("stopped")

    async def _build(self) -> Listener:
        settings = self.settings
        services = Services(
            gate=self.trust.gate,
            store=self._store,
            config=self.trust,
            passwords=self._passwords,
            guesses=self._guesses,
            slow_lane=SlowLane(),
            metrics=self.metrics,
            auth_prefix=settings.auth_prefix,
            session_cookie=build.make_cookie_form(settings),
            session_key=SessionKey(settings.session_key),
            longest=build.longest(settings),
            keys=self.trust.control_keys,
        )
        api = Runner(build_api(services), build.make_head_limits(settings))
        await api.setup()
        self._api = api
        self.context = self._make_context(api)
        return Listener(self.context)

    def _count_routes(self, routes: RouteTable) -> None:
        """Make the counters of every route, before the first request uses them."""
        for each in routes.all:
            self.metrics.route(each.name)

    def _make_context(self, api: web.AppRunner) -> DataPlaneContext:
        components, gate = self.trust.components, self.trust.gate
        settings = self.settings
        metrics = self.metrics
        server = api.server
        if server is None:
            raise RuntimeError("the control plane has not been set up")
        upstreams = {
            "upstream": UpstreamPool(
                str(settings.upstream_url),
                components.upstream,
                limits=build.make_upstream_pool_limits(settings),
                fields=FieldLines(HeaderKinds.of_responses()),
                metrics=metrics,
                tasks=self._tasks,
            ),
            "api": UpstreamPool(
                "control plane",
                InProcessConnector(server),
                limits=UpstreamPoolLimits(connections=64, idle_timeout=_PAIR_IDLE),
                fields=FieldLines(HeaderKinds.of_control_plane()),
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
        self.trust.on_change = live.look_again
        self._count_routes(components.routes)
        context = DataPlaneContext(
            build.make_data_plane_config(settings, components),
            gate=gate,
            store=self._store,
            upstreams=upstreams,
            route_metrics=metrics.routes,
            malformed=metrics.route("malformed"),
            metrics=metrics,
            tasks=self._tasks,
            log=logging.getLogger("sidecar.proxy"),
            fields=FieldLines(HeaderKinds.of_requests(components.identity.names)),
            paths=build.make_paths(settings),
            verify=build.make_verify_endpoint(settings),
            request_ids=make_request_ids(secrets.token_hex(6).encode()),
            credentials=CredentialFilter(settings.session_cookie.encode()),
            clear_cookie=build.make_clearing_line(settings),
            access_log=self._access_log,
            log_all=settings.access_log == "all",
            keys=self.trust.keys,
            session_watcher=live,
        )
        metrics.body_buffer, metrics.uploads = context.staged, upstreams["upstream"].uploads
        return context


def _bind(address: Address) -> socket.socket:
    """A socket that is bound to the address. Raises OSError with the address in its message."""
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
