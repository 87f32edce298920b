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
from sidecar.proxy.flow import BACKLOG, HIGH_WATER, NO_PEER, PEER_FULL, Flow, reset
from sidecar.wire.forwarded import Forwarding, is_trusted
from sidecar.wire.replies import ALLOW, RETRY_AFTER, problem
from sidecar.wire.requests import RequestParser

if TYPE_CHECKING:
    from sidecar.proxy.exchange import Exchange
    from sidecar.proxy.home import Home
    from sidecar.proxy.shared import Shared
    from sidecar.proxy.tunnel import TunnelEnd

_NEVER: Final = float("inf")
_REFUSAL_LINES: Final = {405: ALLOW, 503: RETRY_AFTER}
_FIRST_REQUEST: Final = 1.0  # seconds for it to come, when no more connections are taken
_TOLD: Final = 1024  # connections beyond the limit that are told so before they are closed
_LINGER_OCTETS: Final = 1024 * 1024  # dropped of what a client still sends after its last answer


class Client(asyncio.Protocol):
    """One client's connection: idle, with an exchange, lingering, or become a tunnel."""

    __slots__ = (
        "_at", "_held", "_home", "_lingering", "_parser", "_scheduled", "_shared", "_tunnel",
        "deadline", "ended", "exchange", "flow", "forwarding", "full", "send_deadline", "transport",
    )  # fmt: skip

    def __init__(self, shared: Shared, home: Home) -> None:
        self._shared = shared
        self._home = home
        self._parser = RequestParser(shared.fields, shared.paths, shared.limits.head)
        # Received and not read yet, from `_at` on: part of a head, or requests in line.
        self._held = b""
        self._at = 0
        self._scheduled = False  # `_read_held` is about to be called
        self._lingering = 0  # octets still read and dropped before the connection is closed
        self._tunnel: TunnelEnd | None = None  # what this connection has become
        self.exchange: Exchange | None = None
        self.full = False  # the client does not take what is written
        self.ended = False  # the client has ended its side
        self.deadline = _NEVER  # for whatever is waited for
        self.send_deadline = _NEVER  # for the client to take some of what is written
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
        shared = self._shared
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != AF_UNIX:
            sock.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)  # else a vanished client is never missed
        peer = transport.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) else ""
        trusted = is_trusted(address, shared.trusted_proxies)
        self.forwarding = Forwarding(address, shared.scheme, trusted=trusted)
        self.deadline = monotonic() + shared.limits.header_timeout
        self._home.add(self)
        shared.metrics.connections["downstream"] += 1
        most, count = shared.limits.connections, len(self._home.connections)
        if 0 < most < count:
            if count > most + _TOLD:  # a flood may not grow by what it is told
                self.transport.abort()
            else:
                self.refuse(PeerError(503, "too many connections"))

    # Time limits

    def expect(self, now: float, seconds: float) -> None:
        """Something is to happen in this time; in less, if the client has ended its side."""
        if self.ended and seconds > self._shared.limits.half_closed:
            seconds = self._shared.limits.half_closed  # it may as well be gone
        self.deadline = now + seconds

    def send_due(self) -> float:
        """When something that is written now must have been taken; monotonic seconds."""
        return monotonic() + self._shared.limits.send_timeout

    def on_deadline(self) -> None:
        """Whatever was waited for has not come in time."""
        self.deadline = _NEVER
        if self.exchange is not None:
            if not self.ended:
                self.exchange.on_deadline()
            elif not self.full:  # while it does not take what waits, `send_deadline` holds
                self.exchange.abandon()
        elif self._lingering or self.transport.is_closing():
            reset(self.transport)
        elif self._held:
            self.refuse(PeerError(408, "request head not complete in time"))
        else:
            self._close()

    def on_send_deadline(self) -> None:
        """The client, or the other end of its tunnel, takes nothing."""
        self.send_deadline = _NEVER
        if self._tunnel is not None:
            self._tunnel.abort()
        elif self.exchange is not None:
            self.exchange.abandon()
        else:
            reset(self.transport)

    def sweep(self, now: float) -> None:
        """Strike what is late, and notice a reset from a client that is not read."""
        if self.deadline <= now:
            self.on_deadline()
        elif self.send_deadline <= now:
            self.on_send_deadline()
        sock = self.transport.get_extra_info("socket")
        if not self.flow.held or sock is None or self.transport.is_closing():
            return
        if sock.getsockopt(SOL_SOCKET, SO_ERROR):
            self.transport.abort()  # without reading, nothing else shows it

    # Ending

    def refuse(self, error: PeerError) -> None:
        """Answer what cannot be read as a request, and close: where another begins is not known."""
        shared = self._shared
        shared.malformed.codes[error.status] += 1
        headers = _REFUSAL_LINES.get(error.status, b"")
        request_id = next(shared.request_ids)
        self.transport.write(problem(error.status, request_id, headers=headers, close=True))
        self._end(unread=True)

    def _end(self, *, unread: bool) -> None:
        """Close once what is written has been sent.

        With request bytes still coming, closing at once would make the kernel reset the connection
        and take the answer from the client (RFC 9112 section 9.6): end our side, and read on for a
        while.
        """
        self._held, self._at = b"", 0
        if unread and not self.ended and self.transport.can_write_eof():
            self._lingering = _LINGER_OCTETS
            self.deadline = monotonic() + self._shared.limits.linger
            self.flow.release(BACKLOG | NO_PEER | PEER_FULL)
            self.transport.write_eof()
        else:
            self._close()

    def _close(self) -> None:
        """Close once what is written has been sent; the client has a while to take it."""
        self.deadline = monotonic() + self._shared.limits.send_timeout
        self.transport.close()

    def go_away(self, now: float) -> None:
        """The listener closes: an idle connection goes now, a busy one after its answer.

        One that has only begun to ask is busy; one that was just made is about to ask.
        """
        if self._tunnel is not None:
            self._tunnel.peer.go_away()
        elif self.exchange is None and not self._lingering and not self._held:
            if self._parser.unused:
                self.deadline = min(self.deadline, now + _FIRST_REQUEST)
            else:
                self._close()

    def become(self, tunnel: TunnelEnd) -> bytes:
        """Hand the transport over to a tunnel; returns what was received and not read."""
        self._tunnel = tunnel
        held = self._held[self._at :]
        self._held, self._at = b"", 0
        self.exchange = None
        self.deadline = _NEVER
        self.flow.release(BACKLOG | NO_PEER)
        return held

    def leave(self) -> None:
        """The connection is gone."""
        self._shared.metrics.connections["downstream"] -= 1
        if self._tunnel is None:
            self._home.remove(self)

    def on_tunnel_over(self) -> None:
        """Both ends of the tunnel that it became are gone: until then their time was kept here."""
        self._tunnel = None
        self._home.remove(self)

    def cut(self) -> None:
        """End it now, and its tunnel, whatever is left to be written."""
        reset(self.transport)
        if self._tunnel is not None:
            self._tunnel.abort()
