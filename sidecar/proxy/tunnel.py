"""A connection after 101: bytes both ways, with back-pressure, until either side ends.

Owns the two transports from the upgrade on. Knows nothing of what is spoken over them.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from sidecar.proxy.flow import PEER_FULL, Flow

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.proxy.downstream import Downstream
    from sidecar.proxy.upstream import UpstreamConnection


class TunnelEnd(asyncio.Protocol):
    """One side of a tunnel; `peer` is the other, `client` whose connection it all is."""

    __slots__ = ("_client", "_flow", "_on_closed", "due", "peer", "transport")

    def __init__(
        self,
        client: Downstream,
        transport: asyncio.Transport,
        flow: Flow,
        on_closed: Callable[[], None],
    ) -> None:
        self._client = client
        self.transport = transport
        self._flow = flow
        self._on_closed = on_closed
        self.due = math.inf  # when this side must have taken something; monotonic seconds
        self.peer: TunnelEnd = self  # until it is joined to the other side

    def __repr__(self) -> str:
        return f"<TunnelEnd closing={self.transport.is_closing()} {self._flow!r}>"

    def data_received(self, data: bytes) -> None:
        """On to the other side."""
        self.peer.transport.write(data)

    def eof_received(self) -> bool:
        """This side has ended; the other gets what is on its way, and the end."""
        self.peer.close()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """This side is gone: a clean end ends the other cleanly, a broken one breaks it."""
        if error is None:
            self.peer.close()
        else:
            self.peer.transport.abort()
        self._on_closed()

    def close(self) -> None:
        """Write out what is buffered, then close; not for ever."""
        if not self.transport.is_closing():
            self._expect(min(self.due, self._client.send_due()))
            self.transport.close()

    def abort(self) -> None:
        """End both sides now."""
        self.transport.abort()
        self.peer.transport.abort()

    def pause_writing(self) -> None:
        """This side takes no more: stop reading from the other."""
        self._expect(self._client.send_due())
        self.peer.hold(full=True)

    def resume_writing(self) -> None:
        """It does again."""
        self._expect(math.inf)
        self.peer.hold(full=False)

    def _expect(self, due: float) -> None:
        """The client's connection keeps the earlier of both sides' limits."""
        self.due = due
        self._client.send_deadline = min(due, self.peer.due)

    def hold(self, *, full: bool) -> None:
        """Stop or go on reading this side."""
        if full:
            self._flow.hold(PEER_FULL)
        else:
            self._flow.release(PEER_FULL)


def open_tunnel(downstream: Downstream, upstream: UpstreamConnection) -> None:
    """Join the two connections; from here on neither is read as HTTP any more."""
    upstream.exchange = None
    ours = TunnelEnd(downstream, downstream.transport, downstream.flow, downstream.leave)
    theirs = TunnelEnd(downstream, upstream.transport, upstream.flow, upstream.on_tunnel_closed)
    ours.peer, theirs.peer = theirs, ours
    early = downstream.become(ours)
    for end in (ours, theirs):
        end.transport.set_protocol(end)
    if early:  # what the client sent right behind its request
        theirs.transport.write(early)
