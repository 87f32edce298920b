"""A client connection's state: what is known of its peer, its time limits, and how it ends.

Deadlines are not timers: the listener's sweep compares them with the clock. This half reads
nothing; `downstream.Downstream` does. It is a base class and not a member because a member would
cost one more call for each event of the loop: two of the 29 that a bearer GET takes.
"""

from __future__ import annotations

import asyncio
from socket import AF_UNIX, SO_ERROR, SO_KEEPALIVE, SOL_SOCKET
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

from sidecar.errors import Malformed
from sidecar.proxy import accounting, rejections
from sidecar.proxy.admission import ADDRESS, CONNECTIONS, UNFINISHED
from sidecar.proxy.flow import BACKLOG, HIGH_WATER, NEVER, NO_PEER, PEER_FULL, Flow, reset
from sidecar.wire.client_address import client_of, parse_address
from sidecar.wire.forwarded import Forwarding, is_trusted
from sidecar.wire.requests import RequestParser

if TYPE_CHECKING:
    from sidecar.proxy.connections import ConnectionSet
    from sidecar.proxy.context import DataPlaneContext
    from sidecar.proxy.contracts import RequestInProgress, TunnelSide
    from sidecar.wire.head import RequestHead

FIRST_REQUEST: Final = 1.0  # seconds that a new connection has to ask once the listener closes
ANSWERED_OVER_LIMIT: Final = 1024  # connections beyond the limit that get a 503 before the close
ANSWERED_PER_ADDRESS: Final = 64  # the same for one address's limit and a 429
_LINGER_OCTETS: Final = 16 * 1024 * 1024  # read and dropped from a client after its last answer


class ClientConnection(asyncio.Protocol):
    """One client's connection: idle, serving an exchange, lingering, or part of a tunnel."""

    __slots__ = (
        *("_connections", "_context", "_parser"),
        *("_at", "_client", "_held", "_lingering", "_scheduled", "_tunnel", "exchange"),
        *("deadline", "ended", "flow", "forwarding", "full", "half_close", "send_deadline"),
        "transport",
    )
    transport: asyncio.Transport  # this and the next two from `connection_made` on
    flow: Flow
    forwarding: Forwarding

    def __init__(self, context: DataPlaneContext, connections: ConnectionSet) -> None:
        self._context = context
        self._connections = connections
        self._parser = RequestParser(
            context.fields, context.paths, context.limits.head, context.remembered
        )
        self._client = ""  # that this connection counts for in `Admission`; empty: none
        # Received and not read yet, from `_at` on: part of a head, or pipelined requests
        self._held = b""
        self._at = 0
        self._scheduled = False  # `_read_held` is about to be called
        self._lingering = 0  # octets still to be read and dropped before the connection is closed
        self._tunnel: TunnelSide | None = None  # what this connection has become
        self.exchange: RequestInProgress | None = None
        self.full: bool = False  # the client does not read: the write buffer is over its limit
        self.ended: bool = False  # the client has closed its sending side
        self.half_close = True  # either side can close while the other sends; not so with TLS
        self.deadline: float = NEVER  # for what is being waited for
        self.send_deadline = NEVER  # no later than `due` of any of its flows

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
            # Without keep-alive probes a vanished client would never be noticed.
            sock.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
        self.identify()
        self.half_close = self.transport.can_write_eof()
        self.deadline = monotonic() + context.limits.header_timeout
        if self._connections.closing:  # it arrived as the port closed, and is about to ask
            self.go_away(monotonic())
        self._connections.add(self)
        context.metrics.connections["downstream"] += 1
        self._admit()

    def identify(self) -> None:
        """Note the peer's address, and whether it is a proxy that is trusted now."""
        peer = self.transport.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) else ""
        tls = self.transport.get_extra_info("ssl_object")
        # What the client has presented and what was verified, in DER; empty if nothing
        certificate = (tls and tls.getpeercert(binary_form=True)) or b""
        scheme, clients = "https" if tls else "http", self._context.clients
        trusted = is_trusted(address, clients.networks)
        self.forwarding = Forwarding(
            address, scheme, trusted=trusted, certificate=certificate, clients=clients
        )
        if self._tunnel is None:  # it may count for the client that a proxy has named
            self.count_for("" if trusted else client_of(parse_address(address)))

    def count_for(self, client: str) -> None:
        """Count this connection for this client from now on; empty: for none."""
        if client == self._client:
            return
        admission = self._context.admission
        if self._client:
            admission.remove(self._client)
        if client:
            admission.add(client)
        self._client = client

    def _admit(self) -> None:
        """Refuse a new connection that is one too many, or make room for it."""
        limits, count = self._context.limits, len(self._connections.open)
        opened = self._context.admission.opened(self._client)
        if 0 < limits.connections < count:
            if not (limits.makes_room and self._connections.make_room(self)):
                answered = count <= limits.connections + ANSWERED_OVER_LIMIT
                self._turn_away(CONNECTIONS, 503, answered=answered)
        elif 0 < limits.per_address < opened:
            answered = opened <= limits.per_address + ANSWERED_PER_ADDRESS
            self._turn_away(ADDRESS, 429, answered=answered)

    def _turn_away(self, limit: str, status: int, *, answered: bool) -> None:
        self._context.admission.refused(limit, self._client)
        if answered:
            self.refuse(status, limit)
        else:  # answers must not feed a flood
            self.transport.abort()

    def waits_for_client(self) -> bool:
        """Whether it is open, and only its client can make it continue."""
        exchange = self.exchange
        waits = exchange is None or (exchange.body is not None and not exchange.body.done)
        return waits and self._tunnel is None and not self.transport.is_closing()

    def give_up(self) -> None:
        """Drop what is kept of an unfinished request: all of them together keep too much."""
        if self.transport.is_closing():
            return
        self._context.admission.refused(UNFINISHED, self._client)
        if self.exchange is None:
            self.refuse(503, UNFINISHED)
        else:
            self._held, self._at = b"", 0
            self.exchange.abandon(accounting.CROWDED_OUT)

    # Time limits

    def expect(self, now: float, seconds: float) -> None:
        """Set the deadline; it is sooner if the client has closed its sending side.

        Such a client may have gone altogether.
        """
        if self.ended and seconds > self._context.limits.half_closed:
            seconds = self._context.limits.half_closed
        self.deadline = now + seconds

    def await_taking(self, flow: Flow) -> None:
        """From now on the peer of `flow` must read as fast as the limits say."""
        flow.await_peer(monotonic(), self._context.limits.send_timeout)
        self.send_deadline = min(self.send_deadline, flow.due)

    def on_deadline(self) -> None:
        """What was waited for has not happened in time."""
        self.deadline = NEVER
        if self.exchange is not None:
            if not self.ended:
                self.exchange.on_deadline()
            elif not self.full:  # while the client does not read, `send_deadline` applies
                self.exchange.abandon()
        elif self._lingering or self.transport.is_closing():
            self._stop_lingering()
        elif self._held:
            self.refuse(408, Malformed.INCOMPLETE)
        else:
            self._close_idle()

    def _check_sending(self, now: float) -> None:
        limits = self._context.limits
        flows = (self.flow,) if self._tunnel is None else (self.flow, self._tunnel.peer.flow)
        due = min(flow.look(now, limits.send_timeout, limits.send_rate) for flow in flows)
        self.send_deadline = due
        if due <= now:
            self._on_send_deadline()

    def _on_send_deadline(self) -> None:
        """The client, or the other end of its tunnel, reads too slowly."""
        self.send_deadline = NEVER
        if self._tunnel is not None:
            self._tunnel.abort()
        elif self.exchange is not None:
            self.exchange.on_slow_reader()
        else:
            reset(self.transport)

    def sweep(self, now: float) -> None:
        """Act on deadlines that have passed, and notice a reset from a client that is not read."""
        if self.deadline <= now:
            self.on_deadline()
        elif self.send_deadline != NEVER:
            self._check_sending(now)
        sock = self.transport.get_extra_info("socket")
        if not self.flow.held or sock is None or self.transport.is_closing():
            return
        if sock.getsockopt(SOL_SOCKET, SO_ERROR):
            self.transport.abort()  # nothing else reports it while reading is paused

    # Ending

    def _keep_of(self, data: bytes, at: int = 0) -> None:
        """Keep the octets of `data` from `at` on, which have been received and not read yet."""
        self._held, self._at = data, at
        self._context.unfinished.put(self, len(data), self._client)

    def refuse(self, status: int, reason: str, head: RequestHead | None = None) -> None:
        """Answer what is not a request, and close: where the next one begins is unknown."""
        answer = rejections.reject(self._context, self.forwarding, status, reason, head)
        self.transport.write(answer)
        self._end(unread=True)

    def _end(self, *, unread: bool) -> None:
        """Close once what is written has been sent; `unread`: request bytes may still arrive.

        Closing at once would then make the kernel reset the connection, and the reset would take
        the answer from the client (RFC 9112 section 9.6): so close the sending side, and read for
        a while. With TLS, uvloop's way of closing does just that, and `await_end` bounds it.
        """
        self._keep_of(b"")
        if unread and not self.ended and self.half_close:
            self._lingering = _LINGER_OCTETS
            self.deadline = monotonic() + self._context.limits.linger
            self.flow.release(BACKLOG | NO_PEER | PEER_FULL)
            self.transport.write_eof()
        else:
            self._close()

    def _stop_lingering(self) -> None:
        """Reset, unless the client is still reading its last answer: that would be lost."""
        if self.flow.waiting():
            self.await_taking(self.flow)
            self.deadline = monotonic() + self._context.limits.linger
        else:
            reset(self.transport)

    def _close(self) -> None:
        """Close once the client has read what was written to it."""
        self.deadline = NEVER
        self.await_end(self.flow)
        self.transport.close()

    def await_end(self, flow: Flow) -> None:
        """Start the time limits for closing: reading what is left, and with TLS closing too."""
        self.await_taking(flow)
        if flow is self.flow and not self.half_close:
            self.deadline = monotonic() + self._context.limits.linger

    def _close_idle(self) -> None:
        """Close, unless bytes have arrived meanwhile, which the loop reads in its next turn.

        With TLS these may be no request yet, or never become one.
        """
        if self.flow.unread():
            self.deadline = min(self.deadline, monotonic() + self._context.limits.header_timeout)
        else:
            self._close()

    def go_away(self, now: float) -> None:
        """The listener is closing: close now if idle, otherwise after the current answer.

        A connection that has begun to send a request is not idle; one that was just opened is
        about to send one and gets `FIRST_REQUEST` seconds.
        """
        if self._tunnel is not None:
            self._tunnel.peer.go_away()
        elif self.exchange is None and not self._lingering and not self._held:
            if self._parser.unused:
                self.deadline = min(self.deadline, now + FIRST_REQUEST)
            elif not self.transport.is_closing():
                self._close_idle()

    def become(self, tunnel: TunnelSide) -> bytes:
        """Hand the transport over to a tunnel; returns the bytes received and not read yet."""
        self._tunnel = tunnel
        held = self._held[self._at :]
        self._keep_of(b"")
        self.exchange = None
        self.deadline = NEVER
        self.flow.release(BACKLOG | NO_PEER)
        return held

    def cut(self) -> None:
        """Reset the connection, and the other end of its tunnel, whatever they are doing."""
        reset(self.transport)
        if self._tunnel is not None:
            reset(self._tunnel.peer.transport)

    def on_gone(self) -> None:
        """The client's transport is closed; the other end of its tunnel may still be open."""
        self._context.metrics.connections["downstream"] -= 1

    def leave(self) -> None:
        """Every transport is closed: leave the listener's set, and keep nothing."""
        self._tunnel = None
        self.count_for("")
        self._context.unfinished.drop(self)
        self._context.remembered.drop(self._parser)
        self._connections.remove(self)
