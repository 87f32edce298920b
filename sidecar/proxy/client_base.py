"""A client connection's state: what is known of the peer, its time limits, and its ways to end.

Times out by being asked: the listener's sweep compares two deadlines with the clock. Reads nothing;
`Downstream` does.
"""

from __future__ import annotations

import asyncio
from socket import AF_UNIX, SO_ERROR, SO_KEEPALIVE, SOL_SOCKET
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

from sidecar.errors import PeerError
from sidecar.proxy.flow import BACKLOG, HIGH_WATER, NEVER, NO_PEER, PEER_FULL, Flow, reset
from sidecar.wire.forwarded import Forwarding, is_trusted
from sidecar.wire.replies import ALLOW, RETRY_AFTER, problem
from sidecar.wire.requests import RequestParser

if TYPE_CHECKING:
    import ssl

    from sidecar.proxy.connections import ConnectionSet
    from sidecar.proxy.context import DataPlaneContext
    from sidecar.proxy.exchange import Exchange
    from sidecar.proxy.tunnel import TunnelEnd

_REFUSAL_LINES: Final = {405: ALLOW, 503: RETRY_AFTER}
FIRST_REQUEST: Final = 1.0  # seconds for it to come, when no more connections are taken
TOLD: Final = 1024  # connections beyond the limit that are told so before they are closed
_LINGER_OCTETS: Final = 1024 * 1024  # dropped of what a client still sends after its last answer


class ClientConnection(asyncio.Protocol):
    """One client's connection: idle, with an exchange, lingering, or become a tunnel."""

    __slots__ = (
        "_at",
        "_connections",
        "_context",
        "_held",
        "_lingering",
        "_parser",
        "_scheduled",
        "_tunnel",
        "deadline",
        "ended",
        "exchange",
        "flow",
        "forwarding",
        "full",
        "half_close",
        "send_deadline",
        "transport",
    )  # fmt: skip

    def __init__(self, context: DataPlaneContext, connections: ConnectionSet) -> None:
        self._context = context
        self._connections = connections
        self._parser = RequestParser(context.fields, context.paths, context.limits.head)
        # Received and not read yet, from `_at` on: part of a head, or requests in line.
        self._held = b""
        self._at = 0
        self._scheduled = False  # `_read_held` is about to be called
        self._lingering = 0  # octets still read and dropped before the connection is closed
        self._tunnel: TunnelEnd | None = None  # what this connection has become
        self.exchange: Exchange | None = None
        self.full = False  # the client does not take what is written
        self.ended = False  # the client has ended its side
        self.half_close = True  # either side can end while the other goes on; not so with TLS
        self.deadline = NEVER  # for whatever is waited for
        self.send_deadline = NEVER  # no later than any `due` of its flows
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.flow: Flow = cast("Flow", None)
        self.forwarding: Forwarding = cast("Forwarding", None)

    def __repr__(self) -> str:
        state = "lingering" if self._lingering else repr(self.exchange) if self.exchange else "idle"
        return f"<{type(self).__name__} {state} held={len(self._held)} ended={self.ended}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        self.flow = Flow(self.transport)
        context = self._context
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != AF_UNIX:
            sock.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)  # else a vanished client is never missed
        self.identify()
        self.half_close = self.transport.can_write_eof()
        self.deadline = monotonic() + context.limits.header_timeout
        if self._connections.closing:  # it arrived as the port closed, and is about to ask
            self.go_away(monotonic())
        self._connections.add(self)
        context.metrics.connections["downstream"] += 1
        most, count = context.limits.connections, len(self._connections.open)
        if 0 < most < count:
            if count > most + TOLD:  # a flood may not grow by what it is told
                self.transport.abort()
            else:
                self.refuse(PeerError(503, "too many connections"))

    def identify(self) -> None:
        """See who the peer is, and whether it is a proxy to be believed by what holds now."""
        peer = self.transport.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) else ""
        tls = self.transport.get_extra_info("ssl_object")
        trusted = is_trusted(address, self._context.trusted_proxies)
        self.forwarding = Forwarding(
            address, "https" if tls else "http", trusted=trusted, certificate=_certificate_of(tls)
        )

    # Time limits

    def expect(self, now: float, seconds: float) -> None:
        """Something is to happen in this time; in less, if the client has ended its side."""
        if self.ended and seconds > self._context.limits.half_closed:
            seconds = self._context.limits.half_closed  # it may as well be gone
        self.deadline = now + seconds

    def await_taking(self, flow: Flow) -> None:
        """What waits to be written there must be taken as fast as the limits say."""
        flow.await_peer(monotonic(), self._context.limits.send_timeout)
        self.send_deadline = min(self.send_deadline, flow.due)

    def on_deadline(self) -> None:
        """Whatever was waited for has not come in time."""
        self.deadline = NEVER
        if self.exchange is not None:
            if not self.ended:
                self.exchange.on_deadline()
            elif not self.full:  # while it does not take what waits, `send_deadline` holds
                self.exchange.abandon()
        elif self._lingering or self.transport.is_closing():
            self._linger_on()
        elif self._held:
            self.refuse(PeerError(408, "request head not complete in time"))
        else:
            self._close_idle()

    def _look_at_sending(self, now: float) -> None:
        limits = self._context.limits
        flows = (self.flow,) if self._tunnel is None else (self.flow, self._tunnel.peer.flow)
        due = min(flow.look(now, limits.send_timeout, limits.send_rate) for flow in flows)
        self.send_deadline = due
        if due <= now:
            self._on_send_deadline()

    def _on_send_deadline(self) -> None:
        """The client, or the other end of its tunnel, takes too little."""
        self.send_deadline = NEVER
        if self._tunnel is not None:
            self._tunnel.abort()
        elif self.exchange is not None:
            self.exchange.fault = "slow_reader"
            self.exchange.abandon()
        else:
            reset(self.transport)

    def sweep(self, now: float) -> None:
        """Strike what is late, and notice a reset from a client that is not read."""
        if self.deadline <= now:
            self.on_deadline()
        elif self.send_deadline != NEVER:
            self._look_at_sending(now)
        sock = self.transport.get_extra_info("socket")
        if not self.flow.held or sock is None or self.transport.is_closing():
            return
        if sock.getsockopt(SOL_SOCKET, SO_ERROR):
            self.transport.abort()  # without reading, nothing else shows it

    # Ending

    def refuse(self, error: PeerError) -> None:
        """Answer what cannot be read as a request, and close: where another begins is not known."""
        context = self._context
        context.malformed.codes[error.status] += 1
        headers = _REFUSAL_LINES.get(error.status, b"")
        request_id = next(context.request_ids)
        self.transport.write(problem(error.status, request_id, headers=headers, close=True))
        self._end(unread=True)

    def _end(self, *, unread: bool) -> None:
        """Close once what is written has been sent.

        With request bytes still coming, closing at once would make the kernel reset the connection
        and take the answer from the client (RFC 9112 section 9.6): end our side, and read on for a
        while. With TLS, uvloop's way of closing does just that, and `await_end` bounds it.
        """
        self._held, self._at = b"", 0
        if unread and not self.ended and self.half_close:
            self._lingering = _LINGER_OCTETS
            self.deadline = monotonic() + self._context.limits.linger
            self.flow.release(BACKLOG | NO_PEER | PEER_FULL)
            self.transport.write_eof()
        else:
            self._close()

    def _linger_on(self) -> None:
        """A reset would take from the client what it has not taken yet of its last answer."""
        if self.flow.waiting():
            self.await_taking(self.flow)
            self.deadline = monotonic() + self._context.limits.linger
        else:
            reset(self.transport)

    def _close(self) -> None:
        """Close once what is written has been sent, which the client must take."""
        self.deadline = NEVER
        self.await_end(self.flow)
        self.transport.close()

    def await_end(self, flow: Flow) -> None:
        """What waits there must be taken; a client that speaks TLS must then end its side, too."""
        self.await_taking(flow)
        if flow is self.flow and not self.half_close:
            self.deadline = monotonic() + self._context.limits.linger

    def _close_idle(self) -> None:
        """Close, unless something has come meanwhile: the loop reads it in its next turn.

        Of TLS that may be no request yet, or never one.
        """
        if self.flow.unread():
            self.deadline = min(self.deadline, monotonic() + self._context.limits.header_timeout)
        else:
            self._close()

    def go_away(self, now: float) -> None:
        """The listener closes: an idle connection goes now, a busy one after its answer.

        One that has only begun to ask is busy; one that was just made is about to ask.
        """
        if self._tunnel is not None:
            self._tunnel.peer.go_away()
        elif self.exchange is None and not self._lingering and not self._held:
            if self._parser.unused:
                self.deadline = min(self.deadline, now + FIRST_REQUEST)
            elif not self.transport.is_closing():
                self._close_idle()

    def become(self, tunnel: TunnelEnd) -> bytes:
        """Hand the transport over to a tunnel; returns what was received and not read."""
        self._tunnel = tunnel
        held = self._held[self._at :]
        self._held, self._at = b"", 0
        self.exchange = None
        self.deadline = NEVER
        self.flow.release(BACKLOG | NO_PEER)
        return held

    def cut(self) -> None:
        """Break off whatever there is of it."""
        reset(self.transport)
        if self._tunnel is not None:
            reset(self._tunnel.peer.transport)

    def on_gone(self) -> None:
        """The connection is gone; of a tunnel, the other end may have to go yet."""
        self._context.metrics.connections["downstream"] -= 1

    def leave(self) -> None:
        """Nothing is left of it."""
        self._tunnel = None
        self._connections.remove(self)


def _certificate_of(tls: ssl.SSLObject | None) -> bytes:
    """The certificate that a client has shown and that was found good, in DER; empty: none."""
    return (tls and tls.getpeercert(binary_form=True)) or b""
