"""The upstream leg of an exchange: the request on its way there, the answer on its way back.

Owns the upstream connection while the exchange has it, the single retry, and what both heads gain
in between. It knows neither routes nor decisions; it tells its exchange how things went.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from sidecar.errors import UpstreamBroken
from sidecar.proxy.flow import NEVER, PEER_FULL
from sidecar.proxy.tunnel import open_tunnel
from sidecar.proxy.upload import Upload, send_whole
from sidecar.proxy.upstream import ResponseReceiver
from sidecar.proxy.upstream_loss import can_resend, is_early_error
from sidecar.wire.head import Framing

if TYPE_CHECKING:
    from sidecar.errors import UpstreamError
    from sidecar.proxy.accounting import Accounting
    from sidecar.proxy.context import DataPlaneContext
    from sidecar.proxy.contracts import ForwardedExchange, LegClient
    from sidecar.proxy.upstream import UpstreamConnection
    from sidecar.proxy.upstream_pool import UpstreamPool
    from sidecar.wire.head import ResponseHead

_NONE: Final = Framing.NONE
_CHUNKED: Final = Framing.CHUNKED
_UNTIL_CLOSE: Final = Framing.UNTIL_CLOSE


class UpstreamLeg(ResponseReceiver):
    """One request forwarded to one upstream by `forward`, once. Times are monotonic seconds.

    The exchange drops its leg at its end, so that the two do not keep each other alive. Defaults
    are class attributes, as `Exchange` has them.
    """

    connection: UpstreamConnection | None = None
    to_head: bool
    unread_since = NEVER  # when the client last stopped reading the answer
    _accounting: Accounting
    _context: DataPlaneContext
    _downstream: LegClient
    _exchange: ForwardedExchange
    _pool: UpstreamPool
    _request = b""  # the head as it is sent, kept for the retry
    _retried = False
    _sent = 0.0  # when the request was sent
    _upload: Upload | None = None  # of a request with a body
    _upgrade: bytes | None = None  # the protocol that the upstream was asked to switch to

    def __repr__(self) -> str:
        return f"<UpstreamLeg to {self._pool.name} on {self.connection!r}>"

    # Towards the upstream

    @property
    def decodes(self) -> bool:
        """Whether the client speaks HTTP/1.0 and cannot read chunks."""
        return not self._exchange.head.minor

    @property
    def sends_body(self) -> bool:
        """Whether the request has a body."""
        return self._exchange.body is not None

    def forward(
        self,
        exchange: ForwardedExchange,
        pool: UpstreamPool,
        lines: bytes,
        identity: bytes,
        upgrades: frozenset[bytes],
    ) -> None:
        """Send the exchange's request with these header lines and its `identity`.

        It may ask for one of `upgrades`. A leg begins here and not in a constructor, which would
        be one more call for each request.
        """
        context, downstream = exchange.context, exchange.downstream
        self._exchange, self._context, self._downstream = exchange, context, downstream
        self._accounting, self._pool = exchange.accounting, pool
        head = exchange.head
        self.to_head = head.method == b"HEAD"
        # An upgrade beside a body is ambiguous: such a request is forwarded as a plain one.
        if head.upgrade is not None and head.framing is _NONE and head.upgrade in upgrades:
            self._upgrade = head.upgrade
            end = b"\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n" % head.upgrade
        elif head.framing is _CHUNKED:
            end = b"\r\nTransfer-Encoding: chunked\r\n\r\n"
        else:
            end = b"\r\n\r\n"
        forwarded = downstream.forwarding.lines(head)
        self._request = b"".join(
            (
                head.method,
                b" ",
                head.target,
                b" HTTP/1.1\r\n",
                lines,
                identity,
                forwarded,
                context.via[head.minor],
                exchange.request_id,
                end,
            )
        )
        body = exchange.body
        if body is not None:
            staged = exchange.staged
            if body.done or staged is None:
                send_whole(exchange, self, pool)
            else:
                upload = self._upload = Upload(exchange, body, staged, self, pool)
                upload.begin()
            return
        connection = pool.pool.take()
        if connection is not None:
            self._send(connection, self._accounting.began)
            return
        downstream.expect(self._accounting.began, context.limits.queue_timeout)
        pool.obtain(self)

    def _send(self, connection: UpstreamConnection, now: float) -> None:
        downstream = self._downstream
        self.connection = connection
        self._sent = now
        limits = self._context.limits
        if downstream.ended:
            downstream.expect(now, limits.upstream_timeout)
        else:  # `expect`, without the call that each request would pay for
            downstream.deadline = now + limits.upstream_timeout
        connection.send(self, self._request)
        if downstream.full:
            self.unread_since = now
            connection.flow.hold(PEER_FULL)

    def on_connected(self, connection: UpstreamConnection) -> None:
        """The pool lends the connection that this leg asked for."""
        now, staged = monotonic(), self._exchange.staged
        if self._exchange.over:
            self._pool.release(connection, now)
            return
        if staged is not None:
            self._request = staged.behind(self._request)
        self._send(connection, now)
        if staged is not None:
            self._request = b""  # it is not sent again
        if self._upload is not None:
            self._upload.on_sent(now)

    def on_not_connected(self, error: UpstreamError) -> None:
        """The pool has no connection for this leg."""
        if not self._exchange.over:
            self._exchange.fail(error)

    def send_body(self, data: bytes) -> None:
        """Send more of the request's body, or keep it until there is a connection."""
        if self._upload is not None:
            self._upload.add(data)

    def on_downstream_full(self, *, full: bool) -> None:
        """The client has stopped reading the answer, or reads it again."""
        if self.connection is None:
            return
        if full:
            self.unread_since = monotonic()
            self.connection.flow.hold(PEER_FULL)
        else:
            self.unread_since = NEVER
            self.connection.flow.release(PEER_FULL)

    @property
    def caller(self) -> str:
        """The client's address, as far as limits are concerned."""
        return self._exchange.caller

    @property
    def slow_from(self) -> float:
        """When the connection waits for more of the body for too long; NEVER if it does not."""
        return NEVER if self._upload is None else self._upload.slow_from

    def give_way(self) -> None:
        """Break off: the connection waits for the client, and others need it."""
        self._exchange.give_way()

    # From the upstream

    def on_interim(self, head: ResponseHead) -> None:
        """Pass a 1xx response on, unless the client speaks HTTP/1.0 (RFC 9110 section 15.2)."""
        exchange = self._exchange
        if head.status == 100 and self._upload is not None:
            self._upload.on_continue(monotonic())
        if exchange.head.minor and not (exchange.continued and head.status == 100):
            self._downstream.transport.write(head.lines + b"\r\n")

    def on_response(self, head: ResponseHead, first: bytes, *, complete: bool) -> None:
        """Pass the answer's head on, with what arrived of its body."""
        now = monotonic()
        exchange, downstream = self._exchange, self._downstream
        self._accounting.upstream_time = now - self._sent
        self._accounting.status = head.status
        request, body = exchange.head, exchange.body
        keep = request.keep_alive and not self._context.draining
        framing = head.framing
        lines = b""
        if not head.cache_control and exchange.allow is not self._context.gate.anonymous:
            lines = self._context.cache_control
        if framing is _CHUNKED:
            if self.decodes:
                keep = False  # only the end of the connection can show where the body ends
            else:
                lines += b"Transfer-Encoding: chunked\r\n"
        elif framing is _UNTIL_CLOSE:
            keep = False
        if complete and body is not None and not body.done:
            keep = False  # the rest of the request's body would be read as the next request
        exchange.keep_alive = keep
        if not keep:
            lines += b"Connection: close\r\n"
        elif not request.minor:
            lines += b"Connection: keep-alive\r\n"
        downstream.transport.write(
            b"".join(
                (head.lines, lines, b"X-Request-Id: ", exchange.request_id, b"\r\n\r\n", first)
            )
        )
        if complete:
            exchange.finish(now)
        else:
            downstream.expect(now, NEVER if self._upload is None else self._upload.patience(now))
            exchange.on_stream()

    def on_body(self, data: bytes, *, complete: bool) -> None:
        """Pass more of the answer's body on."""
        if data:
            self._downstream.relay(data)
        if complete:
            self._exchange.finish(monotonic())

    def on_upgrade(self, head: ResponseHead, rest: bytes) -> None:
        """Become a tunnel, if the upstream switches to the protocol that it was asked for."""
        exchange, downstream = self._exchange, self._downstream
        wanted, connection = self._upgrade, self.connection
        if downstream.ended:
            exchange.abandon()  # there is nobody at the other end of the tunnel
            return
        if connection is None or wanted is None or head.upgrade != wanted:
            self.drop()
            exchange.fail(UpstreamBroken("switched to a protocol that it was not asked for"))
            return
        now = monotonic()
        self._accounting.status = 101
        self._accounting.upstream_time = now - self._sent
        end = b"Connection: Upgrade\r\nUpgrade: %b\r\nX-Request-Id: %b\r\n\r\n"
        downstream.transport.write(head.lines + end % (wanted, exchange.request_id) + rest)
        self.connection = None
        self._pool.let_go(connection)
        frames = rest if wanted == b"websocket" else None
        exchange.on_upgraded(open_tunnel(downstream, connection, frames), now)

    def on_upstream_lost(self, error: UpstreamError, *, stale: bool) -> None:
        """The connection broke before the answer's end; `stale`: idle before, and no octet of it.

        Then it was closed while the request was on its way (RFC 9112 section 9.3.1.1).
        """
        connection, exchange, self.connection = self.connection, self._exchange, None
        status = self._accounting.status
        if stale and not self._retried and can_resend(exchange.head, status):
            self._retried = True
            self._pool.obtain(self)
        elif connection and connection.until_close and is_early_error(exchange.body, status):
            exchange.finish(monotonic())
        else:
            exchange.fail(error)

    def on_upstream_full(self, *, full: bool) -> None:
        """The upstream has stopped reading the request, or reads it again."""
        now = monotonic()
        downstream = self._downstream
        if full:
            downstream.flow.hold(PEER_FULL)
            downstream.expect(now, self._context.limits.upstream_timeout)
        else:
            downstream.flow.release(PEER_FULL)
            if self._upload is not None:
                self._upload.on_room(now)
            else:  # the whole body was sent at once
                timeout = self._context.limits.upstream_timeout
                downstream.expect(now, NEVER if self._accounting.status else timeout)

    # The end

    def drop(self) -> None:
        """Break off towards the upstream, so that it does not take a part for the whole."""
        upload, self._upload = self._upload, None  # the two do not keep each other alive
        if self.connection is None:
            self._pool.forget(self)
            return
        self.connection.abort()
        self.connection = None
        if upload is not None:
            upload.end()

    def release(self, now: float) -> None:
        """Return the connection to its pool: the answer is complete."""
        connection, self.connection = self.connection, None
        body = self._exchange.body
        if body is not None and self._upload is not None:
            self._upload.end()
            self._upload = None
            if connection is not None and not body.done:
                connection.reusable = False
        if connection is not None:
            if connection.flow.held:
                connection.flow.release(PEER_FULL)
            self._pool.release(connection, now)
