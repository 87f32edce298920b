"""What the parts of the data plane need of each other, stated where they are used.

A client connection has an exchange, an exchange has an upstream leg, and both can become a tunnel.
Each of them names what it needs of the others as a protocol here, so that no two files import each
other. The hot classes also inherit from theirs: only then do compiled callers call them directly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import asyncio

    from sidecar.auth.decision import Allow
    from sidecar.errors import PeerError, UpstreamError
    from sidecar.proxy.accounting import Accounting
    from sidecar.proxy.context import DataPlaneContext
    from sidecar.proxy.flow import Flow
    from sidecar.proxy.session_watch import WatchedStream
    from sidecar.proxy.staging import StagedBody
    from sidecar.wire.forwarded import Forwarding
    from sidecar.wire.framing import Body
    from sidecar.wire.head import RequestHead

# Of protocols whose classes have slots. A literal would tell mypy that attributes cannot be set.
_NO_SLOTS: Final[tuple[str, ...]] = ()


class OpenConnection(Protocol):
    """A client's connection as the listener sees it. Times are monotonic seconds."""

    deadline: float
    send_deadline: float
    flow: Flow

    def identify(self) -> None:
        """Decide again whether the peer is a trusted proxy."""

    def sweep(self, now: float) -> None:
        """Act on time limits that have passed."""

    def waits_for_client(self) -> bool:
        """Whether it is open, and only its client can make it continue."""

    def go_away(self, now: float) -> None:
        """The listener is closing: close now if idle, otherwise after the current answer."""

    def cut(self) -> None:
        """Reset the connection, whatever it is doing."""


class ClientSide(Protocol):
    """The client's connection as an exchange and its upstream leg see it."""

    __slots__ = _NO_SLOTS

    transport: asyncio.Transport
    flow: Flow
    forwarding: Forwarding
    full: bool  # the client does not read: the write buffer is over its limit
    ended: bool  # the client has closed its sending side
    deadline: float  # set by `expect`, in monotonic seconds

    def expect(self, now: float, seconds: float) -> None:
        """Call the exchange's `on_deadline` unless this is called again within `seconds`."""

    def relay(self, data: bytes) -> None:
        """Send more of an answer's body to the client."""

    def on_answered(self, now: float) -> None:
        """The exchange has written its whole answer; its `keep_alive` says what follows."""

    def on_aborted(self) -> None:
        """The exchange cannot complete its answer: reset the connection."""


class TunnelClient(Protocol):
    """The client's connection as a tunnel sees it."""

    __slots__ = _NO_SLOTS

    transport: asyncio.Transport
    flow: Flow

    def become(self, tunnel: TunnelSide) -> bytes:
        """Stop reading HTTP; returns the bytes that were received and not read yet."""

    def await_taking(self, flow: Flow) -> None:
        """Start the time limit for the peer of `flow` to read what was written to it."""

    def await_end(self, flow: Flow) -> None:
        """Start the time limits for the end of the connection that `flow` controls."""

    def on_gone(self) -> None:
        """The client's transport is closed."""

    def leave(self) -> None:
        """Both transports are closed: the listener can forget the connection."""


class TunnelSide(Protocol):
    """One end of a tunnel as the client's connection sees it."""

    @property
    def flow(self) -> Flow:
        """The flow control of this end."""

    @property
    def transport(self) -> asyncio.Transport:
        """The transport of this end."""

    @property
    def peer(self) -> TunnelSide:
        """The other end."""

    def go_away(self) -> None:
        """End the tunnel because this process is shutting down."""

    def abort(self) -> None:
        """Drop both ends at once."""


class RequestInProgress(Protocol):
    """An exchange as the client's connection sees it."""

    body: Body | None
    keep_alive: bool  # whether the connection serves another request after this one

    def on_request_body(self, data: bytes) -> None:
        """More of the request's body has arrived."""

    def on_bad_body(self, error: PeerError) -> None:
        """The request's body breaks the protocol."""

    def on_downstream_full(self, *, full: bool) -> None:
        """The client has stopped reading the answer, or reads it again."""

    def on_client_gone(self) -> None:
        """The client has disconnected."""

    def on_slow_reader(self) -> None:
        """The client reads the answer more slowly than the limits allow."""

    def on_deadline(self) -> None:
        """The time limit of the last `expect` has passed."""

    def abandon(self, fault: str = "") -> None:
        """Break off on both sides; `fault` is the word for why, if that is not noted yet."""


class WatchedTunnel(Protocol):
    """A tunnel as an exchange sees it: something that ends with its session."""

    watched: WatchedStream | None

    def end(self) -> None:
        """End the tunnel as the session policy demands."""


class LegClient(ClientSide, TunnelClient, Protocol):
    """The client's connection of an exchange that may become a tunnel."""

    __slots__ = _NO_SLOTS

    def count_for(self, client: str) -> None:
        """Count the connection for this client in `Admission`."""


class ForwardedExchange(Protocol):
    """An exchange as its upstream leg sees it."""

    context: DataPlaneContext
    downstream: LegClient
    accounting: Accounting
    head: RequestHead
    allow: Allow | None
    named: tuple[str, str, str] | None  # subject, issuer and sid, as the control plane says
    request_id: bytes
    body: Body | None  # of the request; None when it has none
    staged: StagedBody | None  # what is kept of the body; None when it has none
    keep_alive: bool  # whether the client's connection serves another request after this one
    over: bool
    continued: bool  # the client has been sent 100 (Continue)

    @property
    def caller(self) -> str:
        """The client's address, as far as limits are concerned."""

    def keep_unsent(self) -> bool:
        """Count what is kept in the buffer of all bodies; False if its caller has no room there."""

    def give_way(self) -> None:
        """Break off: the upstream connection waits for the client, and others need it."""

    def on_upload(self) -> None:
        """The request's body is unfinished."""

    def on_uploaded(self) -> None:
        """The upstream has been sent the whole body."""

    def fail(self, error: UpstreamError) -> None:
        """The upstream cannot answer."""

    def abandon(self, fault: str = "") -> None:
        """Break off on both sides; `fault` is the word for why, if that is not noted yet."""

    def finish(self, now: float) -> None:
        """The whole answer has been written."""

    def on_stream(self) -> None:
        """The answer's head has been written, and its body is still to come."""

    def on_upgraded(self, tunnel: WatchedTunnel, now: float) -> None:
        """The connection has become a tunnel; `tunnel` is its upstream end."""
