"""The body of one request on its way to the upstream: its first part buffered, the rest relayed.

Owns when the request gets an upstream connection, and how long its client may take. A connection is
not for a client that sends an octet a second: small bodies are sent once they are complete.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

from sidecar.errors import UpstreamBusy
from sidecar.proxy.flow import NEVER, NO_PEER
from sidecar.proxy.upstream_pool import ConnectionWaiter

if TYPE_CHECKING:
    from sidecar.proxy.contracts import ForwardedExchange
    from sidecar.proxy.staging import StagedBody
    from sidecar.proxy.upstream import UpstreamConnection
    from sidecar.proxy.upstream_pool import UpstreamPool
    from sidecar.wire.framing import Body


# A client that sends an upload more slowly than this, in octets a second, or pauses for so many
# seconds, is one that its connection waits for.
_SLOW: Final = 64 * 1024
_PAUSE: Final = 1.0


class UploadingLeg(ConnectionWaiter, Protocol):
    """The upstream leg that sends the body."""

    connection: UpstreamConnection | None


class Upload:
    """One body; its leg calls `begin` once. Times are monotonic seconds."""

    __slots__ = ("_body", "_due", "_exchange", "_leg", "_limits", "_pool", "_slow_from", "_staged")

    def __init__(
        self,
        exchange: ForwardedExchange,
        body: Body,
        staged: StagedBody,
        leg: UploadingLeg,
        pool: UpstreamPool,
    ) -> None:
        self._exchange = exchange
        self._body = body
        self._staged = staged
        self._leg = leg
        self._pool = pool
        self._limits = exchange.context.limits
        self._due = NEVER  # when the body will have fallen too far behind its rate
        self._slow_from = NEVER  # when its connection can be taken from it, if others wait

    def __repr__(self) -> str:
        return f"<Upload of {self._body!r} by {self._exchange.caller}>"

    def begin(self) -> None:
        """Wait for the body, or send the request if that is what the client waits for."""
        now, exchange = monotonic(), self._exchange
        exchange.on_upload()
        if exchange.head.expect_continue and exchange.head.minor:
            # The upstream answers the expectation (RFC 9110 section 10.1.1); no body comes before.
            self._obtain(now)
            return
        self._await_body(now)
        self._wait(now)

    def add(self, data: bytes) -> None:
        """Send more of the body, or keep it until there is a connection."""
        now, limits = monotonic(), self._limits
        if limits.body_rate:
            # The first octets start the count; being ahead of the rate earns no more than this.
            due = self._due + len(data) / limits.body_rate
            self._due = min(due, now + limits.body_grace)
        connection = self._leg.connection
        if connection is not None:
            self._slow_from = min(self._slow_from + len(data) / _SLOW, now + _PAUSE)
            self._exchange.downstream.expect(now, self.patience(now))
            connection.send_body(data)
            if self._body.done:
                self._end_body()
            return
        self._staged.add(data)
        if not self._exchange.downstream.flow.held & NO_PEER:
            self._wait(now)

    def _wait(self, now: float) -> None:
        """Wait for more of the body, unless there is enough of it to send the request."""
        exchange = self._exchange
        enough = self._body.done or self._staged.size >= self._limits.body_buffer
        if enough or not exchange.keep_unsent():
            self._obtain(now)
        else:
            exchange.downstream.expect(now, self.patience(now))
            exchange.downstream.flow.release(NO_PEER)

    def _obtain(self, now: float) -> None:
        """Ask for a connection; until there is one, no more of the body is read."""
        exchange, leg, pool = self._exchange, self._leg, self._pool
        exchange.downstream.flow.hold(NO_PEER)
        if self._body.done:
            send_whole(exchange, leg, pool)
            return
        exchange.downstream.expect(now, self._limits.queue_timeout)
        kept = exchange.keep_unsent()
        if pool.obtain_for_upload(leg) and not kept:
            _refuse(exchange, leg, pool)

    def on_sent(self, now: float) -> None:
        """The head and what was kept of the body are sent: expect the rest."""
        exchange = self._exchange
        if not exchange.head.expect_continue:
            self._await_body(now)
            self._slow_from = now + _PAUSE
        exchange.downstream.expect(now, self.patience(now))
        exchange.downstream.flow.release(NO_PEER)
        if self._body.done:
            self._end_body()

    def on_continue(self, now: float) -> None:
        """The upstream has asked for the body with 100 (Continue): it is the client's turn."""
        if not self._body.done:
            self._await_body(now)
            self._slow_from = now + _PAUSE
            self._exchange.downstream.expect(now, self.patience(now))

    def on_room(self, now: float) -> None:
        """The upstream reads again: the client was not the slow side."""
        if self._due != NEVER:
            self._due = now + self._limits.body_grace
        if self._slow_from != NEVER:
            self._slow_from = now + _PAUSE
        self._exchange.downstream.expect(now, self.patience(now))

    @property
    def slow_from(self) -> float:
        """When the connection waits for its client for too long; NEVER if it does not."""
        flow = self._exchange.downstream.flow
        return NEVER if flow.held or self._leg.connection is None else self._slow_from

    def _await_body(self, now: float) -> None:
        if self._limits.body_rate:
            self._due = now + self._limits.body_grace

    def patience(self, now: float) -> float:
        """Seconds to wait for more of the request, or for the answer's head; then without limit."""
        timeout = self._limits.upstream_timeout
        if self._body.done:
            return NEVER if self._exchange.accounting.status else timeout
        return min(timeout, self._due - now)

    def _end_body(self) -> None:
        self.end()
        self._exchange.on_uploaded()

    def end(self) -> None:
        """The body is sent or given up."""
        self._pool.end_upload(self._leg)


def send_whole(exchange: ForwardedExchange, leg: UploadingLeg, pool: UpstreamPool) -> None:
    """Send a request whose body is complete, or queue it until there is a connection."""
    connection = pool.pool.take()
    if connection is not None:
        leg.on_connected(connection)
        return
    exchange.downstream.expect(monotonic(), exchange.context.limits.queue_timeout)
    kept = exchange.keep_unsent()
    if pool.obtain(leg) and not kept:
        _refuse(exchange, leg, pool)


def _refuse(exchange: ForwardedExchange, leg: UploadingLeg, pool: UpstreamPool) -> None:
    pool.forget(leg)
    exchange.fail(UpstreamBusy("too many request bodies are buffered"))
