"""One connection to an upstream: sends a request, reads the answer's head, and relays its body.

Owns the bytes of that connection and whether it may be used again. It passes what arrives to a
`ResponseReceiver`, and knows neither clients nor routes nor authentication.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Final, Protocol, cast

from sidecar.errors import PeerError, UpstreamBroken
from sidecar.proxy.flow import HIGH_WATER, Flow
from sidecar.wire.framing import Body, ChunkedBody, LengthBody, UntilCloseBody
from sidecar.wire.head import HEAD_END, Framing, has_bare_line_feed

if TYPE_CHECKING:
    from sidecar.errors import UpstreamError
    from sidecar.wire.field_lines import FieldLines
    from sidecar.wire.head import HeadLimits, ResponseHead
    from sidecar.wire.responses import ResponseParser

_LENGTH: Final = Framing.LENGTH
_NONE: Final = Framing.NONE
_CHUNKED: Final = Framing.CHUNKED
_VERSION: Final = b"HTTP/1."
_MAX_INTERIM: Final = 16  # 1xx responses before a final one; a flood of them is an attack


class ResponseReceiver(Protocol):
    """Receives the answer to one request, piece by piece and in order."""

    to_head: bool  # the request was a HEAD
    unread_since: float  # when the client last stopped reading the answer; NEVER if it reads

    @property
    def decodes(self) -> bool:
        """Whether the client cannot read chunks: chunked bodies lose their framing."""

    @property
    def caller(self) -> str:
        """The client's address, as far as limits are concerned."""

    @property
    def sends_body(self) -> bool:
        """Whether the request has a body."""

    def give_way(self) -> None:
        """Break off: the connection waits for the client, and others need it."""

    def on_interim(self, head: ResponseHead) -> None:
        """A 1xx response has arrived."""

    def on_upgrade(self, head: ResponseHead, rest: bytes) -> None:
        """A 101 response has arrived, and `rest` behind it."""

    def on_response(self, head: ResponseHead, first: bytes, *, complete: bool) -> None:
        """The final head has arrived, and `first` of the body; `complete`: that is all of it."""

    def on_body(self, data: bytes, *, complete: bool) -> None:
        """More of the body has arrived; `complete`: it is the end."""

    def on_upstream_lost(self, error: UpstreamError, *, stale: bool) -> None:
        """The connection broke; `stale`: it was idle before, and no octet of the answer came."""

    def on_upstream_full(self, *, full: bool) -> None:
        """The upstream has stopped reading the request, or reads it again."""


class ConnectionOwner(Protocol):
    """The pool that a connection belongs to."""

    def on_lost(self, connection: UpstreamConnection) -> None:
        """This connection has closed."""

    def on_tunnel_closed(self) -> None:
        """The tunnel that one of its connections had become has closed."""


class UpstreamConnection(asyncio.Protocol):
    """One keep-alive connection, serving one exchange at a time."""

    __slots__ = (
        "_body",
        "_ended",
        "_fields",
        "_head_seen",
        "_held",
        "_interim",
        "_limits",
        "_owner",
        "_parser",
        "answering",
        "exchange",
        "flow",
        "idle_since",
        "lost",
        "reusable",
        "served",
        "transport",
        "until_close",
    )  # fmt: skip
    transport: asyncio.Transport  # this and the next from `connection_made` on
    flow: Flow

    def __init__(
        self, owner: ConnectionOwner, parser: ResponseParser, fields: FieldLines, limits: HeadLimits
    ) -> None:
        self._owner = owner
        self._parser = parser
        self._fields = fields
        self._limits = limits
        self._body: Body | None = None
        self._head_seen = False
        self._held = b""
        self._interim = 0
        self.until_close = False  # the end of the connection is the end of the answer
        self._ended = False  # the upstream has closed its sending side
        self.answering = False  # some octet of the answer has arrived
        self.exchange: ResponseReceiver | None = None
        self.idle_since = 0.0
        self.lost = False
        self.reusable = True
        self.served = 0  # requests before the current one

    def __repr__(self) -> str:
        state = "idle" if self.exchange is None else "busy"
        return f"<UpstreamConnection {state} served={self.served} body={self._body!r}>"

    # Called by the exchange

    def send(self, exchange: ResponseReceiver, data: bytes) -> None:
        """Send a request: `data` is its head and what has arrived of its body."""
        self.exchange = exchange
        self._head_seen = self.answering = False
        self.transport.write(data)

    def send_body(self, data: bytes) -> None:
        """Send more of the request's body."""
        self.transport.write(data)

    def abort(self) -> None:
        """Drop the connection, whatever it is doing; the upstream sees no clean end."""
        self.exchange = None
        self.reusable = False
        self.transport.abort()

    def on_tunnel_closed(self) -> None:
        """The tunnel this connection became has ended."""
        self._owner.on_tunnel_closed()

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        self.flow = Flow(self.transport)

    def data_received(self, data: bytes) -> None:
        """Read a part of the answer; bytes without a request end the connection."""
        exchange = self.exchange
        if exchange is None:
            # They must never be taken for the answer to the next request.
            self.abort()
            return
        body = self._body
        try:
            if body is None:
                self._read_head(exchange, data)
                return
            data = body.feed(data)
        except UpstreamBroken as error:
            self._break(exchange, error)
        except PeerError as error:
            self._break(exchange, UpstreamBroken(f"in the response: {error.detail}"))
        else:
            if body.done:
                self._end_body(body)
            if data or body.done:
                exchange.on_body(data, complete=body.done)

    def eof_received(self) -> None:
        """The upstream has closed its sending side; the transport closes itself.

        It would first wait for the rest of the request to be read, which cannot be answered now.
        """
        self.reusable = False
        self._ended = True
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection has closed, in whatever state it was."""
        self.lost = True
        self.reusable = False
        if error is not None and self.exchange is not None and self.exchange.sends_body:
            self._read_rest()
        exchange, self.exchange = self.exchange, None
        self._owner.on_lost(self)
        if exchange is None:
            return
        # With TLS a close_notify is needed (RFC 9112 section 9.8): anyone can forge a FIN.
        if self.until_close and self._ended and error is None:
            exchange.on_body(b"", complete=True)
            return
        what = "the response body" if self._head_seen else "the response"
        lost = UpstreamBroken(f"upstream closed the connection before the end of {what}")
        exchange.on_upstream_lost(lost, stale=self.served > 0 and not self.answering)

    def pause_writing(self) -> None:
        """The upstream does not read: the write buffer is over its limit."""
        if self.exchange is not None:
            self.exchange.on_upstream_full(full=True)

    def resume_writing(self) -> None:
        """The upstream reads again."""
        if self.exchange is not None:
            self.exchange.on_upstream_full(full=False)

    # Inside

    def _read_rest(self) -> None:
        """Read what had arrived before the connection was reset.

        An upstream that answers an upload early and closes resets the connection, and writing then
        fails before the answer is read. Linux keeps what was received until the socket is closed.
        Through TLS this cannot be read any more. Without a body it may be no answer to the request:
        some servers send 408 before they close an idle connection.
        """
        sock = self.transport.get_extra_info("socket")
        if sock is None or self.transport.get_extra_info("ssl_object") is not None:
            return
        with contextlib.suppress(OSError):
            while self.exchange is not None and (data := os.read(sock.fileno(), HIGH_WATER)):
                self.data_received(data)

    def _read_head(self, exchange: ResponseReceiver, data: bytes) -> None:
        self.answering = True
        if self._held:
            data = self._held + data
        while True:
            last = self._parser.last
            # To see that it is the last answer's head again costs less than to search for its end.
            if last and data.startswith(last):
                end = len(last)
            else:
                end = data.find(HEAD_END) + len(HEAD_END)
            if end < len(HEAD_END) or end > self._limits.size:
                self._wait_for_head(data)
                return
            if self._held:
                self._held = b""
            if end == len(data):
                raw, data = data, b""
            else:
                raw, data = data[:end], data[end:]
            head = self._parser.parse(raw, to_head=exchange.to_head)
            if head.status >= 200:
                break
            if head.status == 101:
                self.reusable = False
                exchange.on_upgrade(head, data)
                return
            self._interim += 1
            if self._interim > _MAX_INTERIM:
                raise UpstreamBroken("too many interim responses")
            exchange.on_interim(head)
            if not data:
                return
        self._begin_body(exchange, head, data)

    def _wait_for_head(self, data: bytes) -> None:
        """Keep the part of a head that has arrived. Raises UpstreamBroken if none can follow."""
        if len(data) > self._limits.size:
            raise UpstreamBroken(f"response head over {self._limits.size} octets")
        if not data.startswith(_VERSION[: len(data)]):
            raise UpstreamBroken("the answer is not HTTP/1.x")
        if has_bare_line_feed(data):
            raise UpstreamBroken("a line of the response head ends with a bare LF")
        self._held = data

    def _begin_body(self, exchange: ResponseReceiver, head: ResponseHead, data: bytes) -> None:
        self._head_seen = True
        self._interim = 0
        if not head.keep_alive:
            self.reusable = False
        if head.framing is _LENGTH:
            if head.length == len(data):  # complete, as most small answers are
                exchange.on_response(head, data, complete=True)
                return
            body: Body = LengthBody(head.length)
        elif head.framing is _NONE:
            if data:
                self.reusable = False
            exchange.on_response(head, b"", complete=True)
            return
        elif head.framing is _CHUNKED:
            body = ChunkedBody(self._fields, decode=exchange.decodes)
        else:
            self.reusable = False
            self.until_close = True
            body = UntilCloseBody()
        self._body = body
        if data:
            data = body.feed(data)
        if body.done:
            self._end_body(body)
        exchange.on_response(head, data, complete=body.done)

    def _end_body(self, body: Body) -> None:
        if body.rest:  # bytes after the end of the answer
            self.reusable = False
        self._body = None

    def _break(self, exchange: ResponseReceiver, error: UpstreamBroken) -> None:
        self.abort()
        exchange.on_upstream_lost(error, stale=False)
