"""The composition root: settings become a running sidecar, which starts, drains and stops.

Owns the order of starting and stopping. Everything it joins is made elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from sidecar import assembly
from sidecar.access_log import AccessLog
from sidecar.api.admin import build_admin
from sidecar.api.app import build_api
from sidecar.api.passwords import PasswordChecker
from sidecar.api.services import Reloadable, Services
from sidecar.auth.gate import Gate
from sidecar.auth.reason import Reason
from sidecar.auth.session import SessionKey
from sidecar.logs import Redactor
from sidecar.metrics import Metrics
from sidecar.proxy.listener import Listener
from sidecar.proxy.live import Live
from sidecar.proxy.origin import InProcessConnector, Origin, OriginLimits
from sidecar.proxy.shared import Shared, make_request_ids
from sidecar.sessions.local import LocalStore
from sidecar.tasks import Tasks, happened
from sidecar.wire.headers import FieldLines, HeaderKinds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sidecar.api.key_source import KeySource
    from sidecar.auth.keys import Key
    from sidecar.auth.policy import Route
    from sidecar.settings import Address, Settings

logger = logging.getLogger("sidecar.app")

# Seconds for an answer of the control plane or the admin port to be taken, at the very end.
_LAST_ANSWER: Final = 0.5
# Seconds that an unused connection to the control plane is kept: with it stay a task and two files,
# and a new one costs next to nothing.
_PAIR_IDLE: Final = 2.0


class Sidecar:
    """One sidecar. `start` it in a running event loop, `stop` it in the same.

    `metrics` is readable at any time; `port` and `admin_port` once it has started. Raises
    ConfigError with all that is wrong with the files that the settings name.
    """

    def __init__(self, settings: Settings, *, redactor: Redactor | None = None) -> None:
        self._settings = settings
        self._redactor = redactor or Redactor()
        self.metrics = Metrics(reason.label for reason in Reason)
        self._tasks = Tasks()
        self._passwords = PasswordChecker()
        self._parts = assembly.make_parts(settings)
        self._foreign = self._parts.foreign
        self._store = assembly.make_store(settings, self.metrics)
        self._key_source: KeySource | None = None
        self._began = time.time()
        self._listener: Listener | None = None
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
        """Whether the shared session store cannot be used now."""
        return bool(self.metrics.degraded)

    def status(self) -> Mapping[str, Any]:
        """Facts for operators."""
        return {
            "uptime_seconds": round(time.time() - self._began, 1),
            "started": self.started,
            "draining": self.draining,
            "store": repr(self._store),
            "breaker": self.metrics.breaker_state,
            "store_transitions": (
                [] if isinstance(self._store, LocalStore) else self._store.transitions
            ),
            "upstream": str(self._settings.upstream_url),
            "routes": [route.name for route in self._all_routes()],
            "connections": dict(self.metrics.connections),
            "requests_in_flight": self.metrics.in_flight,
            "tasks": len(asyncio.all_tasks()),
        }

    async def start(self) -> None:
        """Bind, build, connect, listen.

        Raises OSError for a port that is taken.
        """
        settings = self._settings
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
            if not isinstance(self._store, LocalStore):
                await self._store.start()
            if self._key_source is not None:
                await self._key_source.start(self._tasks)
            await listener.start(traffic)
        except BaseException:
            traffic.close()
            admin.close()
            raise
        self._listener = listener
        self.started = True
        logger.info("listening", extra={"port": self.port, "admin_port": self.admin_port})

    async def stop(self, *, delay: float = 0.0, hurry: asyncio.Event | None = None) -> None:
        """Take no new work, let what runs end, and close everything.

        For `delay` seconds more, new work is still done, while whoever sends it is told to go
        elsewhere. Once `hurry` is set, nothing is waited for.
        """
        self.draining = True
        if self._listener is not None:
            logger.info("draining", extra={"delay": delay, "timeout": self._settings.drain_timeout})
            self._listener.announce()
            if delay:
                await happened(delay, hurry)
            await self._listener.stop(self._settings.drain_timeout, hurry)
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
        settings = self._settings
        parts = self._parts
        verifier = assembly.make_verifier(settings, parts.keys, self._foreign)
        gate = Gate(
            verifier,
            parts.identity,
            cookie_name=settings.session_cookie,
            session_key=SessionKey(settings.session_key),
            cache_size=settings.session_cache_size,
        )
        current = Reloadable(
            users=parts.users,
            issuer=parts.issuer,
            verifier=verifier,
            published_keys=tuple(key for key in parts.keys.access if not key.is_symmetric),
        )
        self._key_source = assembly.make_key_source(
            settings, partial(self._use_keys, gate, current)
        )
        services = Services(
            gate=gate,
            store=self._store,
            current=current,
            passwords=self._passwords,
            metrics=self.metrics,
            session_cookie=settings.session_cookie,
            session_key=SessionKey(settings.session_key),
            refresh_grace=settings.refresh_grace,
            longest=assembly.longest(settings),
            redirect_origins=assembly.make_redirect_origins(settings),
            on_unknown_key=self._key_source.ask if self._key_source else None,
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
        fields = FieldLines(HeaderKinds.of_requests(parts.identity.names))
        return Listener(self._make_shared(gate, fields, api))

    def _all_routes(self) -> tuple[Route, ...]:
        routes = self._parts.routes
        return (*routes.routes, routes.default)

    def _use_keys(self, gate: Gate, current: Reloadable, issuer: str, keys: Sequence[Key]) -> None:
        """Believe this issuer's tokens by these keys, and by no others of it, from now on."""
        self._foreign = self._foreign.replaced(issuer, keys)
        verifier = assembly.make_verifier(self._settings, self._parts.keys, self._foreign)
        gate.use(verifier)
        current.verifier = verifier

    def _make_shared(self, gate: Gate, fields: FieldLines, api: web.AppRunner) -> Shared:
        settings = self._settings
        metrics = self.metrics
        server = api.server
        if server is None:
            raise RuntimeError("the control plane has not been set up")
        answers = FieldLines(HeaderKinds.of_responses())
        origins = {
            "upstream": Origin(
                str(settings.upstream_url),
                self._parts.upstream,
                limits=assembly.make_origin_limits(settings),
                fields=answers,
                metrics=metrics,
                tasks=self._tasks,
            ),
            "api": Origin(
                "control plane",
                InProcessConnector(server),
                limits=OriginLimits(connections=64, idle_timeout=_PAIR_IDLE),
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
        self._live = Live(gate, self._store, self._tasks)
        self._live.start()
        return Shared(
            routes=self._parts.routes,
            gate=gate,
            store=self._store,
            origins=origins,
            route_metrics=[metrics.route(each.name) for each in self._all_routes()],
            malformed=metrics.route("malformed"),
            metrics=metrics,
            tasks=self._tasks,
            log=logging.getLogger("sidecar.proxy"),
            fields=fields,
            paths=assembly.make_paths(settings),
            request_ids=make_request_ids(secrets.token_hex(6).encode()),
            limits=assembly.make_limits(settings),
            trusted_proxies=settings.trusted_proxies,
            login_url=assembly.login_url(settings),
            access_log=self._access_log,
            log_all=settings.access_log == "all",
            on_unknown_key=self._key_source.ask if self._key_source else None,
            live=self._live,
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
