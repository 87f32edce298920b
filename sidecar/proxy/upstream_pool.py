"""The connections to one upstream: how they are opened, leased, queued for and dropped.

Knows neither clients nor routes nor authentication.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

from sidecar.errors import UpstreamBusy, UpstreamError, UpstreamRefused
from sidecar.proxy.pool import Pool
from sidecar.proxy.upload_queue import UploadQueue, choose_in_turn
from sidecar.proxy.upstream import ResponseReceiver, UpstreamConnection
from sidecar.wire.head import HeadLimits
from sidecar.wire.responses import ResponseParser

if TYPE_CHECKING:
    from sidecar.proxy.connectors import Connector
    from sidecar.proxy.fair_queue import FairQueue
    from sidecar.tasks import Tasks
    from sidecar.telemetry.metrics import Metrics
    from sidecar.wire.field_lines import FieldLines


UNREAD: Final = 1.0  # seconds without room for more of an answer, after which it can be broken off
_LOOK_EVERY: Final = 0.02  # seconds between looks for such answers, which cost 20 µs or more


class ConnectionWaiter(ResponseReceiver, Protocol):
    """A caller of `UpstreamPool.obtain`, which calls one of these, or neither after `forget`."""

    def __hash__(self) -> int: ...

    @property
    def slow_from(self) -> float:
        """When the connection waits for more of the body for too long; NEVER if it does not."""

    def on_connected(self, connection: UpstreamConnection) -> None:
        """The connection is ready and leased to this caller."""

    def on_not_connected(self, error: UpstreamError) -> None:
        """No connection could be opened, or the queue is full."""


@dataclass(frozen=True, slots=True)
class UpstreamPoolLimits:
    """Bounds of one upstream. Times are seconds."""

    connections: int = 256
    waiting: int = 1024  # requests that may wait for a connection
    connect_timeout: float = 5.0
    idle_timeout: float = 60.0
    head: HeadLimits = field(default_factory=HeadLimits)


class UpstreamPool:
    """The connections to one upstream: leases them to callers and keeps the idle ones.

    Connections that wait for a client are at most half of the pool, so that a complete request
    finds room: an upload beyond that waits, and an answer that its client does not read is broken
    off if another request needs the connection.
    """

    __slots__ = (
        "_connector",
        "_fields",
        "_limits",
        "_looked",
        "_looked_at_uploads",
        "_metrics",
        "_tasks",
        "closing",
        "name",
        "pool",
        "uploads",
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
        half = max(1, limits.connections // 2)
        self.uploads: UploadQueue[ConnectionWaiter] = UploadQueue(half)
        self._looked = 0.0  # when slow readers were last looked for
        self._looked_at_uploads = 0.0  # the same for slow uploads
        self.closing = False

    def __repr__(self) -> str:
        return f"<UpstreamPool {self.name} {self.pool!r}>"

    def replace_connector(self, connector: Connector) -> None:
        """Open connections with this connector from now on, and drop the idle ones of before."""
        if connector != self._connector:
            self._connector = connector
            for connection in list(self.pool.idle):
                connection.abort()

    def obtain(self, waiter: ConnectionWaiter) -> bool:
        """Open a connection for `waiter`, or queue it; one callback follows, unless forgotten.

        Returns whether it is queued.
        """
        if self.pool.reserve():
            self._tasks.spawn(self._open(waiter), name=f"connect to {self.name}")
            return False
        queued = self._enqueue(self.pool.waiting, waiter)
        now = monotonic()
        if now - self._looked >= _LOOK_EVERY:
            self._take_from_slow_readers(now)
        return queued

    def _enqueue(self, queue: FairQueue[ConnectionWaiter], waiter: ConnectionWaiter) -> bool:
        """Queue the waiter, if need be in place of one whose caller has more of them."""
        caller = waiter.caller
        if len(queue) >= self._limits.waiting:
            dropped = queue.make_room(caller)
            busy = UpstreamBusy(f"{self.name}: too many requests wait")
            if dropped is None:
                waiter.on_not_connected(busy)
                return False
            dropped.on_not_connected(busy)
        queue.append(caller, waiter)
        return True

    def obtain_for_upload(self, waiter: ConnectionWaiter) -> bool:
        """Do what `obtain` does, if a request with an unfinished body may have a connection now.

        It takes idle connections as well. Otherwise it queues the waiter. `end_upload` must follow
        when the body is finished or given up. A slow upload may have to give up for it.
        """
        if self.uploads.admit(waiter, waiter.caller):
            return self._lease(waiter)
        queued = self._enqueue(self.uploads.waiting, waiter)
        now = monotonic()
        if now - self._looked_at_uploads >= _LOOK_EVERY:
            self._take_from_slow_uploads(now)
        return queued and waiter not in self.uploads.admitted

    def end_upload(self, waiter: ConnectionWaiter) -> None:
        """Let the next uploads have connections, if this request was an admitted upload."""
        if self.uploads.end(waiter):
            while (admitted := self.uploads.next()) is not None:
                self._lease(admitted)

    def _lease(self, waiter: ConnectionWaiter) -> bool:
        connection = self.pool.take()
        if connection is None:
            return self.obtain(waiter)
        waiter.on_connected(connection)
        return False

    def forget(self, waiter: ConnectionWaiter) -> None:
        """Remove a waiter from the queues, if it is there."""
        caller = waiter.caller
        if not self.pool.waiting.remove(caller, waiter):
            self.uploads.waiting.remove(caller, waiter)
        self.end_upload(waiter)

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
        if self._forget(connection) and self.pool.waiting and self.pool.reserve():
            waiter = self.pool.waiting.popleft()
            self._tasks.spawn(self._open(waiter), name=f"connect to {self.name}")

    def _forget(self, connection: UpstreamConnection) -> bool:
        if not self.pool.discard(connection):
            return False  # lost before it was admitted, which `_open` sees; or forgotten before
        self._metrics.connections["upstream"] -= 1
        return True

    def sweep(self, now: float) -> None:
        """Drop connections that have been idle too long; the list has the oldest first."""
        for connection in list(self.pool.idle):
            if now - connection.idle_since < self._limits.idle_timeout:
                break
            connection.abort()
        if self.pool.waiting:
            self._take_from_slow_readers(now)
        if self.uploads.waiting:
            self._take_from_slow_uploads(now)

    def _take_from_slow_uploads(self, now: float) -> None:
        """Give connections that wait for their clients' uploads to uploads of other callers."""
        self._looked_at_uploads = now
        slow = [(since, each) for each in self.uploads.admitted if (since := each.slow_from) <= now]
        for loser, waiter in self.uploads.replace(slow):
            loser.give_way()
            self._lease(waiter)

    def _take_from_slow_readers(self, now: float) -> None:
        """Give connections whose answers are not read to requests that wait, down to half of them.

        The caller with most of them loses one first, and of its answers the one that has been
        unread for longest. Its own requests do not profit, unless there are no others: it would
        only begin again.
        """
        self._looked = now
        legs = [(each, each.exchange) for each in self.pool.leased if each.exchange is not None]
        slow = [
            (leg.caller, leg.unread_since, each)
            for each, leg in legs
            if now - leg.unread_since >= UNREAD
        ]
        excess = min(len(slow) - self.uploads.limit, len(self.pool.waiting))
        if excess <= 0:
            return
        callers = {leg.caller for _, leg in legs}.union(self.pool.waiting.callers())
        for connection in choose_in_turn(slow, excess):
            leg = connection.exchange
            waiter = None
            if leg is not None:
                other = None if len(callers) == 1 else leg.caller
                waiter = self.pool.waiting.pop_for_another(other)
            if leg is None or waiter is None:
                return
            leg.give_way()
            self._forget(connection)
            self.obtain(waiter)

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
