"""The upstream half of an exchange: the request on its way there, the answer on its way back.

Owns the upstream connection while the exchange has it, the one retry, and what both heads get in
between. Knows nothing of routes and decisions; `Exchange` completes it.
"""

from __future__ import annotations

from abc import abstractmethod
from time import monotonic
from typing import TYPE_CHECKING, Final

from sidecar.errors import UpstreamBroken
from sidecar.proxy.flow import NO_PEER, PEER_FULL
from sidecar.proxy.tunnel import open_tunnel
from sidecar.wire.head import Framing

if TYPE_CHECKING:
    from sidecar.errors import UpstreamError
    from sidecar.proxy.context import DataPlaneContext
    from sidecar.proxy.downstream import Downstream
    from sidecar.proxy.tunnel import TunnelEnd
    from sidecar.proxy.upstream import UpstreamConnection
    from sidecar.proxy.upstream_pool import UpstreamPool
    from sidecar.wire.framing import Body
    from sidecar.wire.head import RequestHead, ResponseHead

# Methods that may be sent twice without harm (RFC 9110 section 9.2.2).
_IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
_NONE: Final = Framing.NONE
_CHUNKED: Final = Framing.CHUNKED
_UNTIL_CLOSE: Final = Framing.UNTIL_CLOSE
_NEVER: Final = float("inf")


class Relay:
    """State of the upstream half; the defaults stand on the class, as on `RequestHead`."""

    context: DataPlaneContext
    downstream: Downstream
    head: RequestHead
    request_id: bytes
    began: float  # monotonic seconds
    body: Body | None = None  # of the request, None when it has none
    pool: UpstreamPool | None = None
    connection: UpstreamConnection | None = None
    request: bytes = b""  # the head as sent upstream, kept for the retry
    upgrade: bytes | None = None  # what the upstream was asked to switch to
    unsent: list[bytes] | None = None  # request body that waits for a connection
    status = 0  # of the answer, once it has begun
    keep_alive = False  # the client's connection, after the answer
    retried = False
    began_upstream = 0.0
    body_due = _NEVER  # when the request's body is too far behind its rate; monotonic seconds
    upstream_time = 0.0  # seconds from the request sent to the answer's head
    over = False
    continued = False  # the client has been told to send its body
    decodes = False  # the client cannot read chunks
    to_head = False  # the request is a HEAD

    @abstractmethod
    def fail(self, error: UpstreamError) -> None:
        """The upstream cannot answer."""

    @abstractmethod
    def abandon(self) -> None:
        """Break off towards both sides."""

    @abstractmethod
    def on_stream(self) -> None:
        """The answer has begun, and goes on."""

    @abstractmethod
    def on_tunnel(self, tunnel: TunnelEnd) -> None:
        """The connection has become a tunnel; this is its upstream end."""

    @abstractmethod
    def finish(self, now: float) -> None:
        """The answer is written."""

    @abstractmethod
    def count(self, now: float) -> None:
        """Write down how it went."""

    # Towards the upstream

    def forward(self, pool: UpstreamPool, identity: bytes, upgrades: frozenset[bytes]) -> None:
        """Send the request, with `identity` lines, to `origin`."""
        head = self.head
        context = self.context
        downstream = self.downstream
        self.pool = pool
        # With a body beside it an upgrade is ambiguous: such a request goes on as a plain one.
        if head.upgrade is not None and head.framing is _NONE and head.upgrade in upgrades:
            self.upgrade = head.upgrade
            end = b"\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n" % head.upgrade
        elif head.framing is _CHUNKED:
            end = b"\r\nTransfer-Encoding: chunked\r\n\r\n"
        else:
            end = b"\r\n\r\n"
        forwarded = downstream.forwarding.lines(head)
        self.request = b"".join(
            (
                *(head.method, b" ", head.target, b" HTTP/1.1\r\n", head.lines, identity),
                *(forwarded, context.via[head.minor], self.request_id, end),
            )
        )
        if not head.minor:
            self.decodes = True
        connection = pool.pool.take()
        if connection is not None:
            self._send(connection, self.began)
            return
        if self.body is not None:
            downstream.flow.hold(NO_PEER)
        downstream.expect(self.began, context.limits.queue_timeout)
        pool.obtain(self)

    def _send(self, connection: UpstreamConnection, now: float) -> None:
        downstream = self.downstream
        self.connection = connection
        self.began_upstream = now
        limits = self.context.limits
        downstream.expect(now, limits.upstream_timeout)
        if self.body is None:
            connection.send(self, self.request)
        else:
            if limits.body_rate and not self.head.expect_continue:
                self.body_due = now + limits.body_grace
                downstream.expect(now, self._patience(now))
            unsent, self.unsent = self.unsent or [], None
            connection.send(self, b"".join((self.request, *unsent)))
            downstream.flow.release(NO_PEER)
        if downstream.full:
            connection.flow.hold(PEER_FULL)

    def on_connected(self, connection: UpstreamConnection) -> None:
        """The connection that was asked for is here."""
        if not self.over:
            self._send(connection, monotonic())
        elif self.pool is not None:
            self.pool.release(connection, monotonic())

    def on_not_connected(self, error: UpstreamError) -> None:
        """There will be none."""
        if not self.over:
            self.fail(error)

    def on_request_body(self, data: bytes) -> None:
        """More of the request's body has come from the client."""
        if self.over or not data:
            return
        if self.connection is not None:
            now = monotonic()
            limits = self.context.limits
            if limits.body_rate:
                # Its first octets start the count; being ahead of the rate gains no more than this.
                due = self.body_due + len(data) / limits.body_rate
                self.body_due = min(due, now + limits.body_grace)
            self.downstream.expect(now, self._patience(now))
            self.connection.send_body(data)
        elif self.unsent is None:
            self.unsent = [data]
        else:
            self.unsent.append(data)

    def _patience(self, now: float) -> float:
        """Seconds to wait for more of the request, or the head; for an answer's body, no limit."""
        if self.body is None or self.body.done:
            return _NEVER if self.status else self.context.limits.upstream_timeout
        return min(self.context.limits.upstream_timeout, self.body_due - now)

    def on_downstream_full(self, *, full: bool) -> None:
        """The client takes no more of the answer, or does again."""
        if self.connection is None:
            return
        if full:
            self.connection.flow.hold(PEER_FULL)
        else:
            self.connection.flow.release(PEER_FULL)

    # From the upstream

    def on_interim(self, head: ResponseHead) -> None:
        """A 1xx response, which HTTP/1.0 does not know (RFC 9110 section 15.2)."""
        if self.head.minor and not (self.continued and head.status == 100):
            self.downstream.transport.write(head.lines + b"\r\n")

    def on_response(self, head: ResponseHead, first: bytes, *, complete: bool) -> None:
        """The answer's head and what came with it of its body."""
        now = monotonic()
        self.upstream_time = now - self.began_upstream
        self.status = head.status
        downstream = self.downstream
        downstream.expect(now, _NEVER if self.body is None else self._patience(now))
        keep = self.head.keep_alive and not self.context.draining
        framing = head.framing
        coding = b""
        if framing is _CHUNKED:
            if self.decodes:
                keep = False  # only the end of the connection can show where the body ends
            else:
                coding = b"Transfer-Encoding: chunked\r\n"
        elif framing is _UNTIL_CLOSE:
            keep = False
        if complete and self.body is not None and not self.body.done:
            keep = False  # `finish` would close it anyhow; this says so
        self.keep_alive = keep
        if not keep:
            coding += b"Connection: close\r\n"
        elif not self.head.minor:
            coding += b"Connection: keep-alive\r\n"
        downstream.transport.write(
            b"".join((head.lines, coding, b"X-Request-Id: ", self.request_id, b"\r\n\r\n", first))
        )
        if complete:
            self.finish(now)
        else:
            self.on_stream()

    def on_body(self, data: bytes, *, complete: bool) -> None:
        """More of the answer's body."""
        if data:
            self.downstream.relay(data)
        if complete:
            self.finish(monotonic())

    def on_upgrade(self, head: ResponseHead, rest: bytes) -> None:
        """The upstream switches protocols, if it was asked to."""
        wanted = self.upgrade
        connection = self.connection
        if self.downstream.ended:
            self.abandon()  # a tunnel to nobody
            return
        if connection is None or wanted is None or head.upgrade != wanted:
            self.drop_upstream()
            self.fail(UpstreamBroken("switched to a protocol that it was not asked for"))
            return
        self.status = 101
        now = monotonic()
        self.upstream_time = now - self.began_upstream
        tail = b"Connection: Upgrade\r\nUpgrade: %b\r\nX-Request-Id: %b\r\n\r\n"
        self.downstream.transport.write(head.lines + tail % (wanted, self.request_id) + rest)
        self.connection = None
        self.over = True
        self.count(now)
        if self.pool is not None:
            self.pool.let_go(connection)
        frames = rest if wanted == b"websocket" else None
        self.on_tunnel(open_tunnel(self.downstream, connection, frames))

    def on_upstream_lost(self, error: UpstreamError, *, stale: bool) -> None:
        """The connection broke before the answer's end; `stale`: it was an idle one, and silent."""
        self.connection = None
        if stale and self._can_resend() and self.pool is not None:
            # It was closed while our request was on its way (RFC 9112 section 9.3.1.1).
            self.retried = True
            self.pool.obtain(self)
        else:
            self.fail(error)

    def _can_resend(self) -> bool:
        return (
            not self.retried
            and not self.status
            and self.head.framing is _NONE
            and self.head.method in _IDEMPOTENT
        )

    def on_upstream_full(self, *, full: bool) -> None:
        """The upstream takes no more of the request, or does again."""
        now = monotonic()
        if full:
            self.downstream.flow.hold(PEER_FULL)
            self.downstream.expect(now, self.context.limits.upstream_timeout)
        else:
            self.downstream.flow.release(PEER_FULL)
            if self.body_due != _NEVER:  # it was not the client that was slow
                self.body_due = now + self.context.limits.body_grace
            self.downstream.expect(now, self._patience(now))

    # The end

    def drop_upstream(self) -> None:
        """Break off towards the upstream, which must not take what it has for the whole."""
        if self.connection is not None:
            self.connection.abort()
            self.connection = None
        elif self.pool is not None:
            self.pool.forget(self)

    def release_upstream(self, now: float) -> None:
        """The answer is complete: the connection can serve another exchange."""
        connection, self.connection = self.connection, None
        if connection is None or self.pool is None:
            return
        if self.body is not None and not self.body.done:
            connection.reusable = False
        if connection.flow.held:
            connection.flow.release(PEER_FULL)
        self.pool.release(connection, now)
