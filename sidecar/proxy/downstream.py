"""One client connection: cuts its bytes into requests and answers them in order.

Owns reading: what is a request, what is a body, and what waits for its turn. What a request means
is its `Exchange`'s business; time limits and endings are `client_connection.ClientConnection`'s.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final

from sidecar.errors import Malformed, PeerError
from sidecar.proxy.client_connection import ClientConnection
from sidecar.proxy.contracts import LegClient
from sidecar.proxy.exchange import Exchange
from sidecar.proxy.flow import BACKLOG, NEVER, reset
from sidecar.proxy.proxied_exchange import ProxiedExchange
from sidecar.proxy.rejections import OF_TARGET
from sidecar.proxy.staging import StagedBody
from sidecar.wire.framing import Body, ChunkedBody, LengthBody
from sidecar.wire.head import HEAD_END, Framing, has_bare_line_feed
from sidecar.wire.headers import is_token
from sidecar.wire.target import oversize

if TYPE_CHECKING:
    from sidecar.proxy.contracts import RequestInProgress
    from sidecar.wire.head import RequestHead

_NONE: Final = Framing.NONE
_LENGTH: Final = Framing.LENGTH


class Downstream(ClientConnection, LegClient):
    """A client's connection; it reads ahead while a request is answered, within a bound."""

    __slots__ = ()

    # Called by the event loop

    def data_received(self, data: bytes) -> None:
        """Read part of a head, of a body, or of pipelined requests."""
        if self.exchange is not None:
            self._read_on(self.exchange, data)
        elif self._lingering:
            self._drop_octets(len(data))
        elif self._held or self.full:
            self._keep(data)
            if not self._scheduled:
                self._read_held()
        else:
            self._read_head(data, 0)

    def eof_received(self) -> bool:
        """The client has closed its sending side; it may still read the answer it waits for."""
        self.ended = True
        exchange = self.exchange
        if exchange is None:
            # With pipelined requests `_read_held` continues, and closes; else the transport does.
            return self.half_close and bool(self._held) and (self.full or self._scheduled)
        unfinished = exchange.body is not None and not exchange.body.done
        if unfinished or not self.half_close:  # with TLS nothing can be written any more
            exchange.on_client_gone()
            reset(self.transport)
            return False
        now = monotonic()
        self.expect(now, self.deadline - now)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """The client's connection is closed."""
        self.on_gone()
        self.leave()
        if self.exchange is not None:
            exchange, self.exchange = self.exchange, None
            exchange.on_client_gone()

    def pause_writing(self) -> None:
        """The client does not read: the write buffer is over its limit."""
        self.full = True
        self.await_taking(self.flow)
        if self.exchange is not None:
            self.exchange.on_downstream_full(full=True)

    def resume_writing(self) -> None:
        """The client has read enough for the buffer to take more."""
        self.full = False
        self.flow.on_room()
        if self.exchange is not None:
            if self.ended:
                self.expect(monotonic(), NEVER)
            self.exchange.on_downstream_full(full=False)
        elif self._held or self.ended:
            self._schedule()

    # Reading

    def _read_head(self, data: bytes, at: int) -> None:
        """Read the request that begins at `data[at]`, and begin to answer it."""
        limit = self._context.limits.head.size
        raw = data
        if at or len(data) > limit or not data.endswith(HEAD_END):
            end = data.find(HEAD_END, at, at + limit) + len(HEAD_END)
            if end < len(HEAD_END):
                self._wait_for_head(data[at:], limit)
                return
            raw = data[at:end]
        if raw[0] == 0x0D:
            self._skip_empty_line(data, at)
            return
        try:
            head = self._parser.parse(raw)
        except PeerError as error:
            read = self._parser.last if error.reason in OF_TARGET else None
            raw = raw[: raw.find(HEAD_END) + len(HEAD_END)]
            self.refuse(error.status, _visible_at_once(raw) or error.reason, read)
            return
        end = at + self._parser.taken
        exchange: Exchange
        if self.forwarding.trusted:  # requests of such a proxy count for the client that it names
            exchange = ProxiedExchange(self._context, self, head)
        else:
            exchange = Exchange(self._context, self, head)
        self.exchange = exchange
        if head.framing is not _NONE:
            self._start_with_body(exchange, head, data[end:])
            return
        if end < len(data):
            self._held, self._at = data, end
            exchange.start()
            self._context.unfinished.put(self, len(self._held), self._client)
            return
        exchange.start()

    def _start_with_body(self, exchange: Exchange, head: RequestHead, rest: bytes) -> None:
        body: Body
        if head.framing is _LENGTH:
            body = LengthBody(head.length)
        else:
            body = ChunkedBody(self._context.fields)
        exchange.body = body
        staged = exchange.staged = StagedBody()
        if rest:
            try:
                first = body.feed(rest)
            except PeerError as error:
                self.exchange = None
                exchange.on_refused()
                self.refuse(error.status, error.reason, head)
                return
            self._held = body.rest
            staged.first = first
        exchange.start()
        if self._held:
            self._context.unfinished.put(self, len(self._held), self._client)

    def _wait_for_head(self, data: bytes, limit: int) -> None:
        if len(data) >= limit:
            error = oversize(data[:limit])
            self.refuse(error.status, error.reason)
        elif reason := _visible_at_once(data):
            self.refuse(400, reason)
        else:
            self.deadline = min(self.deadline, monotonic() + self._context.limits.header_timeout)
            self._keep_of(data)

    def _skip_empty_line(self, data: bytes, at: int) -> None:
        """Accept one empty line before a request (RFC 9112 section 2.2)."""
        if data.startswith(b"\r\n", at) and not data.startswith(HEAD_END, at):
            self._read_head(data, at + 2)
        else:
            self.refuse(400, Malformed.LINE_ENDING)

    def _read_on(self, exchange: RequestInProgress, data: bytes) -> None:
        body = exchange.body
        if body is None or body.done:
            self._keep(data)
            return
        try:
            data = body.feed(data)
        except PeerError as error:
            exchange.on_bad_body(error)
            return
        if body.rest:  # what follows a complete body
            self._keep(body.rest)
        exchange.on_request_body(data)

    def _keep(self, data: bytes) -> None:
        """Keep what cannot be read yet; stop reading when too much is kept."""
        self._keep_of(self._held[self._at :] + data)
        if len(self._held) > self._context.limits.backlog:
            self.flow.hold(BACKLOG)

    def _read_held(self) -> None:
        """Read what was kept."""
        self._scheduled = False
        if self.exchange is not None or self.full or self.transport.is_closing():
            return
        data, at = self._held, self._at
        self._held, self._at = b"", 0
        if len(data) - at <= self._context.limits.backlog:
            self.flow.release(BACKLOG)
        if data:
            self._read_head(data, at)
        if not self._held:
            self._context.unfinished.drop(self)
        self._close_if_ended()

    def _close_if_ended(self) -> None:
        """Close if what is left is not a whole request, and nothing more comes."""
        if self.ended and self.exchange is None and not self.transport.is_closing():
            self._close()

    def _drop_octets(self, octets: int) -> None:
        """Drop what a lingering connection has received; beyond the limit, stop reading.

        Many clients send all of a body before they read. Those with more to send have until the
        deadline to read the answer, which a reset would take from them.
        """
        self._lingering -= octets
        if self._lingering <= 0:
            self._lingering = 1
            self.flow.hold(BACKLOG)

    def _schedule(self) -> None:
        """Read on in the loop's next turn: one client's pipeline must not delay the others."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._read_held)

    def relay(self, data: bytes) -> None:
        """Send more of an answer's body to the client."""
        self.transport.write(data)
        if self.ended:  # writing shows whether the client has gone altogether
            self.expect(monotonic(), NEVER)

    # Ending

    def on_answered(self, now: float) -> None:
        """The answer is written: continue with the next request, or close."""
        exchange, self.exchange = self.exchange, None
        if exchange is None or not exchange.keep_alive:
            body = None if exchange is None else exchange.body
            unfinished = body is not None and not body.done
            self._end(unread=unfinished or bool(self._held))
        elif self._connections.closing and not self._held:
            self._close()  # the answer began before it could say so
        else:
            self.deadline = now + self._context.limits.idle_timeout
            if self._held or self.ended:
                self._schedule()

    def on_aborted(self) -> None:
        """The answer was broken off: the client must not take what it has for the whole."""
        self.exchange = None
        reset(self.transport)


def _visible_at_once(start: bytes) -> Malformed | None:
    """What the start of a head already shows to be malformed; its end need not be waited for."""
    if not 0x41 <= start[0] <= 0x5A and not is_token(start[:1]) and start[0] not in b"\r\n":
        # No method begins with this octet: it may be a TLS handshake, whose end never comes.
        return Malformed.NOT_HTTP
    return Malformed.LINE_ENDING if has_bare_line_feed(start) else None
