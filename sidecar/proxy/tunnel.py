"""A connection after 101 (Switching Protocols): bytes both ways until either side closes.

Owns both transports from the upgrade on, with back-pressure between them. Of the protocol that is
spoken it knows only where a WebSocket frame ends.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from sidecar.proxy.flow import NEVER, PEER_FULL, Flow
from sidecar.wire.websocket import (
    GOING_AWAY,
    POLICY_VIOLATION,
    Frames,
    close_frame,
    masked_close_frame,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.proxy.contracts import TunnelClient
    from sidecar.proxy.session_watch import WatchedStream
    from sidecar.proxy.upstream import UpstreamConnection

_CLOSE_WAIT: Final = 1.0  # seconds that a client has to close after it was sent a Close
# Seconds that the current frame has to end before the tunnel is cut, by close code
_FRAME_WAIT: Final = {POLICY_VIOLATION: 0.05, GOING_AWAY: 1.0}


class TunnelEnd(asyncio.Protocol):
    """One end of a tunnel; `peer` is the other one.

    `client` is the client's connection, which stands for both ends in the listener's set.
    `on_closed` is called when this end's transport is closed.
    """

    __slots__ = (
        *("transport", "watched"),
        *("_client", "_code", "_frames", "_on_closed", "ending", "flow", "gone", "closing"),
        "peer",
    )

    def __init__(
        self,
        client: TunnelClient,
        transport: asyncio.Transport,
        flow: Flow,
        on_closed: Callable[[], None],
    ) -> None:
        self._client = client
        self.transport = transport
        self.flow = flow
        self._on_closed = on_closed
        self._frames: Frames | None = None  # of a WebSocket, as they come from this end
        self._code = POLICY_VIOLATION  # the close code, once the tunnel is ending
        self.ending = False  # waits for the end of the current frame
        self.closing = False  # a Close was sent
        self.gone = False
        self.watched: WatchedStream | None = None  # ends the tunnel with its session
        self.peer: TunnelEnd = self  # until `open_tunnel` joins the two

    def __repr__(self) -> str:
        return f"<TunnelEnd closing={self.transport.is_closing()} {self.flow!r}>"

    def data_received(self, data: bytes) -> None:
        """Pass the bytes on to the other end."""
        if self.closing:
            return
        if self._frames is None:
            self.peer.transport.write(data)
            return
        end = self._frames.follow(data)
        if self.ending and end >= 0:
            self.peer.transport.write(data[:end])
            self._send_close()
        else:
            self.peer.transport.write(data)

    def follow_frames(self, early: bytes) -> None:
        """Follow the WebSocket frames from this end; `early` was passed on already."""
        self._frames = Frames()
        self._frames.follow(early)

    def end(self) -> None:
        """End both sides because the session is over: with a Close where it can be read."""
        if self._frames is None or self.peer.transport.is_closing():
            self.abort()
        else:
            self._end_with(POLICY_VIOLATION)

    def go_away(self) -> None:
        """End a WebSocket with a Close because this process shuts down; others continue."""
        if self._frames is not None and not self.peer.transport.is_closing():
            self._end_with(GOING_AWAY)

    def _end_with(self, code: int) -> None:
        if self.closing or self.ending:
            return
        self._code = code
        if self._frames is None or self._frames.between:
            self._send_close()
        else:  # inside a frame, a Close would be read as part of it
            self.ending = True
            asyncio.get_running_loop().call_later(_FRAME_WAIT[code], self._cut)

    def _send_close(self) -> None:
        """Send a Close, upon which the client should close (RFC 6455 section 7.1.1)."""
        self.ending = False
        client = self.peer
        self.closing = client.closing = True
        client.transport.write(close_frame(self._code))
        loop = asyncio.get_running_loop()
        if self._code != GOING_AWAY:
            self.transport.abort()
        elif client.between_frames:
            self.transport.write(masked_close_frame(self._code))
            # Read on: octets that arrive at a closed socket cause a reset, which loses the Close.
            self.hold(full=False)
            loop.call_later(_CLOSE_WAIT, self.close)
        else:
            self.close()
        loop.call_later(_CLOSE_WAIT, client.close)

    @property
    def between_frames(self) -> bool:
        """Whether frames from this end are followed and the last one is complete."""
        return self._frames is not None and self._frames.between

    def _cut(self) -> None:
        if self.ending:
            self.abort()

    def eof_received(self) -> bool:
        """This side has closed: deliver what is on its way, then close the other side."""
        self.peer.close()
        self.close()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """This side is closed: close the other cleanly after a clean end, else drop it."""
        self.ending = False
        self.gone = True
        self.flow.due = NEVER
        self.hold(full=False)
        if self.watched is not None:
            self.watched.release()
        if error is not None and not self.closing:
            self.peer.transport.abort()
        elif not self.closing:
            self.peer.close()
        self._on_closed()
        if self.peer.gone:
            self._client.leave()  # it was swept and waited for on behalf of both ends
            del self.peer.peer, self.peer  # a cycle, which only the garbage collector would free

    def close(self) -> None:
        """Write out what is buffered within the time limits, then close."""
        if not self.transport.is_closing():
            self._client.await_end(self.flow)
            self.transport.close()

    def abort(self) -> None:
        """Drop both ends at once."""
        self.transport.abort()
        self.peer.transport.abort()

    def pause_writing(self) -> None:
        """This side does not read: stop reading from the other."""
        self._client.await_taking(self.flow)
        self.peer.hold(full=True)

    def resume_writing(self) -> None:
        """This side reads again: so does the other."""
        self.flow.on_room()
        self.peer.hold(full=False)

    def hold(self, *, full: bool) -> None:
        """Pause or resume reading this side."""
        if full:
            self.flow.hold(PEER_FULL)
        else:
            self.flow.release(PEER_FULL)


def open_tunnel(
    downstream: TunnelClient, upstream: UpstreamConnection, early_frames: bytes | None
) -> TunnelEnd:
    """Join two connections into a tunnel and return its upstream end.

    Neither is read as HTTP from here on. `early_frames` is what the upstream sent behind its
    answer; None if the protocol is not WebSocket.
    """
    upstream.exchange = None
    client_end = TunnelEnd(downstream, downstream.transport, downstream.flow, downstream.on_gone)
    upstream_end = TunnelEnd(
        downstream, upstream.transport, upstream.flow, upstream.on_tunnel_closed
    )
    client_end.peer, upstream_end.peer = upstream_end, client_end
    if early_frames is not None:
        upstream_end.follow_frames(early_frames)
    early = downstream.become(client_end)
    if early_frames is not None:
        client_end.follow_frames(early)
    for end in (client_end, upstream_end):
        end.transport.set_protocol(end)
    if early:  # what the client sent behind its request
        upstream_end.transport.write(early)
    return upstream_end
