"""A connection after 101: bytes both ways, with back-pressure, until either side ends.

Owns the two transports from the upgrade on. Of what is spoken over them it knows where a WebSocket
frame ends.
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

    from sidecar.proxy.downstream import Downstream
    from sidecar.proxy.session_watch import WatchedStream
    from sidecar.proxy.upstream import UpstreamConnection

_GOODBYE: Final = 1.0  # seconds for a client to close, once it was told
# Seconds for the frame under way to end, before it is cut.
_FRAME_ENDS: Final = {POLICY_VIOLATION: 0.05, GOING_AWAY: 1.0}


class TunnelEnd(asyncio.Protocol):
    """One side of a tunnel; `peer` is the other, `client` whose connection it all is."""

    __slots__ = (
        *("transport", "watched"),
        *("_client", "_code", "_frames", "_on_closed", "ending", "flow", "gone", "parting"),
        "peer",
    )

    def __init__(
        self,
        client: Downstream,
        transport: asyncio.Transport,
        flow: Flow,
        on_closed: Callable[[], None],
    ) -> None:
        self._client = client
        self.transport = transport
        self.flow = flow
        self._on_closed = on_closed
        self._frames: Frames | None = None  # of what comes from this side, where that is followed
        self._code = POLICY_VIOLATION  # why it ends, once it does
        self.ending = False  # at the end of the frame under way
        self.parting = False  # its Close was sent
        self.gone = False
        self.watched: WatchedStream | None = None  # what may end it
        self.peer: TunnelEnd = self  # until it is joined to the other side

    def __repr__(self) -> str:
        return f"<TunnelEnd closing={self.transport.is_closing()} {self.flow!r}>"

    def data_received(self, data: bytes) -> None:
        """On to the other side."""
        if self.parting:
            return
        if self._frames is None:
            self.peer.transport.write(data)
            return
        end = self._frames.follow(data)
        if self.ending and end >= 0:
            self.peer.transport.write(data[:end])
            self._say_goodbye()
        else:
            self.peer.transport.write(data)

    def follow_frames(self, early: bytes) -> None:
        """WebSocket frames come from this side; `early` are those that were passed on before."""
        self._frames = Frames()
        self._frames.follow(early)

    def end(self) -> None:
        """End both sides as a policy demands: with a Close where that can be read, and soon."""
        if self._frames is None or self.peer.transport.is_closing():
            self.abort()
        else:
            self._end_with(POLICY_VIOLATION)

    def go_away(self) -> None:
        """End both sides with a Close, as this process ends; what knows no Close goes on."""
        if self._frames is not None and not self.peer.transport.is_closing():
            self._end_with(GOING_AWAY)

    def _end_with(self, code: int) -> None:
        if self.parting or self.ending:
            return
        self._code = code
        if self._frames is None or self._frames.between:
            self._say_goodbye()
        else:  # in the middle of a frame, a Close would be read as part of it
            self.ending = True
            asyncio.get_running_loop().call_later(_FRAME_ENDS[code], self._cut)

    def _say_goodbye(self) -> None:
        """RFC 6455 section 7.1.1: who is told closes; after a while it is closed for them."""
        self.ending = False
        client = self.peer
        self.parting = client.parting = True
        client.transport.write(close_frame(self._code))
        loop = asyncio.get_running_loop()
        if self._code != GOING_AWAY:
            self.transport.abort()
        elif client.between_frames:
            self.transport.write(masked_close_frame(self._code))
            # Read on: what it still sends would be answered by a reset, which takes the Close.
            self.hold(full=False)
            loop.call_later(_GOODBYE, self.close)
        else:
            self.close()
        loop.call_later(_GOODBYE, client.close)

    @property
    def between_frames(self) -> bool:
        """Whether what comes from this side is followed, and no frame of it is under way."""
        return self._frames is not None and self._frames.between

    def _cut(self) -> None:
        if self.ending:
            self.abort()

    def eof_received(self) -> bool:
        """This side has ended; the other gets what is on its way, and the end."""
        self.peer.close()
        self.close()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """This side is gone: a clean end ends the other cleanly, a broken one breaks it."""
        self.ending = False
        self.gone = True
        self.flow.due = NEVER
        self.hold(full=False)
        if self.watched is not None:
            self.watched.release()
        if error is not None and not self.parting:
            self.peer.transport.abort()
        elif not self.parting:
            self.peer.close()
        self._on_closed()
        if self.peer.gone:
            self._client.leave()  # it stands for both: to be swept, and waited for
            del self.peer.peer, self.peer  # else only the garbage collector could free them

    def close(self) -> None:
        """Write out what is buffered, then close; not for ever."""
        if not self.transport.is_closing():
            self._client.await_end(self.flow)
            self.transport.close()

    def abort(self) -> None:
        """End both sides now."""
        self.transport.abort()
        self.peer.transport.abort()

    def pause_writing(self) -> None:
        """This side takes no more: stop reading from the other."""
        self._client.await_taking(self.flow)
        self.peer.hold(full=True)

    def resume_writing(self) -> None:
        """It does again."""
        self.flow.on_room()
        self.peer.hold(full=False)

    def hold(self, *, full: bool) -> None:
        """Stop or go on reading this side."""
        if full:
            self.flow.hold(PEER_FULL)
        else:
            self.flow.release(PEER_FULL)


def open_tunnel(
    downstream: Downstream, upstream: UpstreamConnection, early_frames: bytes | None
) -> TunnelEnd:
    """Join the two connections; from here on neither is read as HTTP any more.

    The upstream's end, which `end` ends as a policy demands. `early_frames`: what it sent right
    behind its answer, None if it does not speak WebSocket.
    """
    upstream.exchange = None
    ours = TunnelEnd(downstream, downstream.transport, downstream.flow, downstream.on_gone)
    theirs = TunnelEnd(downstream, upstream.transport, upstream.flow, upstream.on_tunnel_closed)
    ours.peer, theirs.peer = theirs, ours
    if early_frames is not None:
        theirs.follow_frames(early_frames)
    early = downstream.become(ours)
    if early_frames is not None:
        ours.follow_frames(early)
    for end in (ours, theirs):
        end.transport.set_protocol(end)
    if early:  # what the client sent right behind its request
        theirs.transport.write(early)
    return theirs
