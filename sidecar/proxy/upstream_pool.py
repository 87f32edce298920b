"""The connections to one upstream: how they are opened, leased, queued for and dropped.

Knows neither clients nor routes nor authentication.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from sidecar.errors import UpstreamBusy, UpstreamError, UpstreamRefused
from sidecar.proxy.pool import Pool
from sidecar.proxy.upstream import ResponseReceiver, UpstreamConnection
from sidecar.wire.head import HeadLimits
from sidecar.wire.responses import ResponseParser

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from sidecar.tasks import Tasks
    from sidecar.telemetry.metrics import Metrics
    from sidecar.wire.headers import FieldLines


class ConnectionWaiter(ResponseReceiver, Protocol):
    """A caller of `UpstreamPool.obtain`, which calls one of these, or neither after `forget`."""

    def on_connected(self, connection: UpstreamConnection) -> None:
        """The connection is ready and leased to this caller."""

    def on_not_connected(self, error: UpstreamError) -> None:
        """No connection could be opened, or the queue is full."""


class Connector(Protocol):
    """Opens connections whose protocol `factory` makes."""

    async def connect(self, factory: Callable[[], UpstreamConnection]) -> UpstreamConnection:
        """Open one connection. Raises OSError, or ValueError for an impossible host name."""
        ...


@dataclass(frozen=True, slots=True)
class TcpConnector:
    """Connects to a host and port; with `tls`, the certificate must be for `server_name`."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str = ""  # empty: the host itself

    async def connect(self, factory: Callable[[], UpstreamConnection]) -> UpstreamConnection:
        """Open one connection."""
        _, connection = await asyncio.get_running_loop().create_connection(
            factory,
            self.host,
            self.port,
            ssl=self.tls,
            server_hostname=(self.server_name or None) if self.tls else None,
        )
        return connection


@dataclass(frozen=True, slots=True)
class UnixConnector:
    """Connects to a Unix socket by its path."""

    path: str

    async def connect(self, factory: Callable[[], UpstreamConnection]) -> UpstreamConnection:
        """Open one connection."""
        _, connection = await asyncio.get_running_loop().create_unix_connection(factory, self.path)
        return connection


@dataclass(frozen=True, slots=True)
class InProcessConnector:
    """Connects to a server in this process over a socket pair, without a port or a file."""

    server: Callable[[], asyncio.BaseProtocol]

    async def connect(self, factory: Callable[[], UpstreamConnection]) -> UpstreamConnection:
        """Make a socket pair and hand one end to the server."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        try:
            for end in (ours, theirs):
                end.setblocking(False)
            await loop.connect_accepted_socket(self.server, theirs)
            _, connection = await loop.create_connection(factory, sock=ours)
        except BaseException:
            ours.close()
            theirs.close()
            raise
        return connection


@dataclass(frozen=True, slots=True)
class UpstreamPoolLimits:
    """Bounds of one upstream. Times are seconds."""

    connections: int = 256
    waiting: int = 1024  # requests that may wait for a connection
    connect_timeout: float = 5.0
    idle_timeout: float = 60.0
    head: HeadLimits = field(default_factory=HeadLimits)


class UpstreamPool:
    """The connections to one upstream: leases them to callers and keeps the idle ones."""

    __slots__ = (
        "_connector",
        "_fields",
        "_limits",
        "_metrics",
        "_tasks",
        "closing",
        "name",
        "pool",
    )

    def __init__(
        self,
        name: str,
        connector: Connector,
        *,
        limits: UpstreamPoolLimits,
        fields: FieldLines,
        metrics: Metrics,
        tasks: Tasks,
    ) -> None:
        self.name = name
        self._connector = connector
        self._limits = limits
        self._fields = fields
        self._metrics = metrics
        self._tasks = tasks
        self.pool: Pool[UpstreamConnection, ConnectionWaiter] = Pool(limits.connections)
        self.closing = False

    def __repr__(self) -> str:
        return f"<UpstreamPool {self.name} {self.pool!r}>"

    def replace_connector(self, connector: Connector) -> None:
        """Open connections with this connector from now on, and drop the idle ones of before."""
        if connector != self._connector:
            self._connector = connector
            for connection in list(self.pool.idle):
                connection.abort()

    def obtain(self, waiter: ConnectionWaiter) -> None:
        """Open a connection for `waiter`, or queue it; one callback follows, unless forgotten."""
        if self.pool.reserve():
            self._tasks.spawn(self._open(waiter), name=f"connect to {self.name}")
        elif len(self.pool.waiting) < self._limits.waiting:
            self.pool.waiting.append(waiter)
        else:
            waiter.on_not_connected(UpstreamBusy(f"{self.name}: too many requests wait"))

    def forget(self, waiter: ConnectionWaiter) -> None:
        """Remove a waiter from the queue, if it is there."""
        if waiter in self.pool.waiting:
            self.pool.waiting.remove(waiter)

    def release(self, connection: UpstreamConnection, now: float) -> None:
        """Take a connection back: lease it to the next waiter, keep it idle, or drop it."""
        connection.exchange = None
        connection.served += 1
        if not connection.reusable or self.closing:
            connection.abort()
            return
        connection.idle_since = now
        waiter = self.pool.release(connection)
        if waiter is not None:
            waiter.on_connected(connection)

    def let_go(self, connection: UpstreamConnection) -> None:
        """The connection has become a tunnel: it no longer takes a slot from requests."""
        self.on_lost(connection)
        self._metrics.connections["upstream"] += 1

    def on_tunnel_closed(self) -> None:
        """A connection that had become a tunnel has closed."""
        self._metrics.connections["upstream"] -= 1

    def on_lost(self, connection: UpstreamConnection) -> None:
        """A connection has closed: open another one for the next waiter."""
        if not self.pool.discard(connection):
            return  # lost before it was admitted; `_open` sees it
        self._metrics.connections["upstream"] -= 1
        if self.pool.waiting and self.pool.reserve():
            waiter = self.pool.waiting.popleft()
            self._tasks.spawn(self._open(waiter), name=f"connect to {self.name}")

    def sweep(self, now: float) -> None:
        """Drop connections that have been idle too long; the list has the oldest first."""
        for connection in list(self.pool.idle):
            if now - connection.idle_since < self._limits.idle_timeout:
                break
            connection.abort()

    def close(self) -> None:
        """Drop the idle connections; a leased one is dropped when its exchange ends."""
        self.closing = True
        for connection in list(self.pool.idle):
            connection.abort()

    def _make(self) -> UpstreamConnection:
        parser = ResponseParser(self._fields, self._limits.head)
        return UpstreamConnection(self, parser, self._fields, self._limits.head)

    async def _open(self, waiter: ConnectionWaiter) -> None:
        """Open a connection in the reserved slot; every way out accounts for the slot."""
        try:
            async with asyncio.timeout(self._limits.connect_timeout):
                connection = await self._connector.connect(self._make)
        except (OSError, TimeoutError, ValueError) as error:  # ValueError: not a host name
            self.pool.not_opened()
            waiter.on_not_connected(
                UpstreamRefused(f"{self.name}: {error or 'connection timed out'}")
            )
            self._fail_waiting(error)
            return
        except BaseException:
            self.pool.not_opened()
            raise
        if connection.lost:
            self.pool.not_opened()
            lost = ConnectionResetError("closed the new connection at once")
            waiter.on_not_connected(UpstreamRefused(f"{self.name}: {lost}"))
            self._fail_waiting(lost)
            return
        self._metrics.connections["upstream"] += 1
        self.pool.opened(connection)
        waiter.on_connected(connection)

    def _fail_waiting(self, error: OSError | ValueError) -> None:
        """Fail the waiters when no leased connection is left whose release could serve them."""
        while self.pool.waiting and not self.pool.leased and not self.pool.opening:
            waiter = self.pool.waiting.popleft()
            waiter.on_not_connected(
                UpstreamRefused(f"{self.name}: {error or 'connection timed out'}")
            )
