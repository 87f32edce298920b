"""A data plane in memory: real listener, upstream pool, gate and store, no sockets or real time."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from sidecar.auth.gate import Gate
from sidecar.auth.identity import IdentityHeaders
from sidecar.auth.keys import KeyRing
from sidecar.auth.reason import Reason
from sidecar.auth.route_rule import Access, RouteRule
from sidecar.auth.routes import RouteTable
from sidecar.auth.symmetric import secret_key
from sidecar.auth.tokens import IssuerConfig, Verifier
from sidecar.proxy.context import DataPlaneConfig, DataPlaneContext, Limits, make_request_ids
from sidecar.proxy.listener import Listener
from sidecar.proxy.upstream_pool import UpstreamPool, UpstreamPoolLimits
from sidecar.proxy.verify import VerifyEndpoint
from sidecar.sessions.memory.local import LocalStore
from sidecar.tasks import Tasks
from sidecar.telemetry.metrics import Metrics
from sidecar.wire.field_lines import FieldLines
from sidecar.wire.header_kinds import HeaderKinds
from sidecar.wire.target import TargetParser
from tests.peers.memory_transport import MemoryTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecar.proxy.connectors import Connector
    from sidecar.proxy.upstream import UpstreamConnection
    from sidecar.wire.client_address import Network

PUBLIC: Final = (RouteRule(path="/*", access=Access.PUBLIC),)
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SECRET: Final = b"a-secret-for-the-tests-of-the-memory-plane"
_TURNS: Final = 20  # of the loop; enough for anything that does no I/O to come to rest


async def rest() -> None:
    """Let the event loop run until everything that needs no I/O has finished."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)


class MemoryConnector:
    """Opens connections to no server; the test plays the upstream on `wires`."""

    def __init__(self) -> None:
        self.wires: list[MemoryTransport] = []
        self.faults: list[BaseException] = []  # raised, one by one, before any connection is made
        self.asked = 0
        self.open = asyncio.Event()  # cleared: connecting hangs
        self.open.set()
        self.loses = False  # each new connection is lost before it is handed over

    async def connect(self, factory: Callable[[], UpstreamConnection]) -> UpstreamConnection:
        """Open one connection in memory, or raise the next of `faults`."""
        self.asked += 1
        await self.open.wait()
        if self.faults:
            raise self.faults.pop(0)
        connection = factory()
        wire = MemoryTransport(connection)
        connection.connection_made(wire)
        self.wires.append(wire)
        if self.loses:
            wire.lose(None)
            await rest()
        return connection


def make_pool(
    connector: Connector,
    limits: UpstreamPoolLimits | None = None,
    *,
    metrics: Metrics | None = None,
    tasks: Tasks | None = None,
) -> UpstreamPool:
    """Create an upstream pool that uses this connector."""
    return UpstreamPool(
        "app",
        connector,
        limits=UpstreamPoolLimits() if limits is None else limits,
        fields=FieldLines(HeaderKinds.of_responses()),
        metrics=make_metrics() if metrics is None else metrics,
        tasks=Tasks() if tasks is None else tasks,
    )


def make_metrics() -> Metrics:
    """Create metrics with all counters at zero."""
    return Metrics(reason.label for reason in Reason)


class Plane:
    """One listener in front of one upstream pool; by default every route is public."""

    def __init__(
        self,
        rules: Sequence[RouteRule] = PUBLIC,
        *,
        limits: Limits | None = None,
        pool_limits: UpstreamPoolLimits | None = None,
        trusted: Sequence[Network] = (),
    ) -> None:
        metrics, tasks = make_metrics(), Tasks()
        verifier = Verifier([IssuerConfig(issuer="t")], KeyRing([secret_key("t", SECRET)]))
        identity = IdentityHeaders()
        gate = Gate(verifier, identity)
        routes = RouteTable(rules)
        self.connector = MemoryConnector()
        self.pool = make_pool(self.connector, pool_limits, metrics=metrics, tasks=tasks)
        config = DataPlaneConfig(
            routes=routes,
            limits=Limits() if limits is None else limits,
            trusted_proxies=trusted,
        )
        self.context = DataPlaneContext(
            config,
            gate=gate,
            store=LocalStore(time.time),
            upstreams={"upstream": self.pool, "api": self.pool},
            route_metrics={each.name: metrics.route(each.name) for each in routes.all},
            malformed=metrics.route("malformed"),
            metrics=metrics,
            tasks=tasks,
            log=logging.getLogger("tests.memory_plane"),
            fields=FieldLines(HeaderKinds.of_requests(identity.names)),
            paths=TargetParser(),
            verify=VerifyEndpoint("/auth/verify"),
            request_ids=make_request_ids(b"id"),
        )
        self.listener = Listener(self.context)

    def connect(self, *, hold: bool = False, address: str = "192.0.2.1") -> MemoryTransport:
        """Return a new client's wire; with `hold`, it keeps written data until it is drained."""
        protocol = self.listener.make_protocol()
        wire = MemoryTransport(protocol, hold=hold, extra={"peername": (address, 40000)})
        protocol.connection_made(wire)
        return wire

    async def ask(self, wire: MemoryTransport, request: bytes) -> bytes:
        """Send a request and answer it with `OK`; return what reached the upstream, if anything."""
        wire.feed(request)
        await rest()
        for upstream in self.connector.wires:
            sent = upstream.take()
            if sent:
                upstream.feed(OK)
                await rest()
                return sent
        return b""
