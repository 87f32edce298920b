"""After a 101, bytes pass both ways with back-pressure until either side ends."""

from __future__ import annotations

from time import monotonic
from typing import Final

import pytest

from sidecar.proxy.flow import Flow
from sidecar.proxy.tunnel import TunnelEnd
from sidecar.wire.websocket import (
    GOING_AWAY,
    POLICY_VIOLATION,
    close_frame,
    masked_close_frame,
)
from tests.peers.memory_transport import MemoryTransport
from tests.peers.patience import until
from tests.proxy.memory_plane import Plane, rest

ASK: Final = (
    b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: x\r\n\r\n"
)
SWITCH: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
)


class Pair:
    """Two joined tunnel ends and their wires; `closed` lists the ends that have been closed."""

    def __init__(self) -> None:
        self.closed: list[str] = []
        self.client = client = Plane().listener.make_protocol()
        self.left, self.right = (MemoryTransport(hold=True) for _ in range(2))
        client.connection_made(self.left)
        a = TunnelEnd(client, self.left, client.flow, lambda: self.closed.append("left"))
        b = TunnelEnd(client, self.right, Flow(self.right), lambda: self.closed.append("right"))
        a.peer, b.peer = b, a
        client.become(a)
        for wire, end in ((self.left, a), (self.right, b)):
            wire.set_protocol(end)
            wire.set_write_buffer_limits(high=10, low=2)


def test_bytes_go_both_ways() -> None:
    """Bytes pass through both ways without being interpreted."""
    pair = Pair()
    pair.left.feed(b"GET / HTTP/1.1\r\n\r\n")
    pair.right.feed(b"\x00\xff")
    assert pair.right.drain() == b"GET / HTTP/1.1\r\n\r\n"
    assert pair.left.drain() == b"\x00\xff"


def test_a_full_side_stops_the_other() -> None:
    """Reading pauses while the other side is full, and resumes when it has room."""
    pair = Pair()
    pair.left.feed(b"x" * 11)
    assert (pair.left.reading, pair.right.reading) == (False, True)
    assert repr(pair.left.get_protocol()) == "<TunnelEnd closing=False <Flow held=1>>"
    assert monotonic() < pair.client.send_deadline < float("inf")
    pair.right.drain(5)
    assert not pair.left.reading
    pair.right.drain()
    assert pair.left.reading
    pair.client.sweep(monotonic())
    assert pair.client.send_deadline == float("inf")


@pytest.mark.parametrize("side", ["left", "right"])
async def test_the_end_of_one_side_is_the_end_of_both(side: str) -> None:
    """When one side ends, the other gets its pending data and is then closed."""
    pair = Pair()
    ends, other = (pair.left, pair.right) if side == "left" else (pair.right, pair.left)
    ends.feed(b"last")
    ends.feed_eof()
    await rest()
    assert ends.lost
    assert not other.lost
    assert other.is_closing()
    assert other.drain() == b"last"
    await rest()
    assert sorted(pair.closed) == ["left", "right"]
    assert not other.aborted


async def test_an_end_can_still_have_things_to_write() -> None:
    """A side that has ended is closed only after it has received its pending data."""
    pair = Pair()
    pair.right.feed(b"for the left")
    pair.left.feed_eof()
    await rest()
    assert not pair.left.lost
    assert pair.left.drain() == b"for the left"
    await rest()
    assert sorted(pair.closed) == ["left", "right"]


async def test_a_broken_side_breaks_the_other() -> None:
    """When one side is lost, the other is aborted, so cut data does not look complete."""
    pair = Pair()
    pair.left.feed(b"cut")
    pair.left.lose(ConnectionResetError())
    await rest()
    assert pair.right.aborted
    assert pair.right.written == b""
    assert sorted(pair.closed) == ["left", "right"]


async def test_aborting() -> None:
    """An abort ends both sides at once, whatever data is pending."""
    pair = Pair()
    pair.left.feed(b"held")
    end = pair.right.get_protocol()
    assert isinstance(end, TunnelEnd)
    end.abort()
    await rest()
    assert pair.left.aborted
    assert pair.right.aborted
    assert sorted(pair.closed) == ["left", "right"]


def spoken(pair: Pair) -> TunnelEnd:
    """Return the upstream end, which follows WebSocket frames."""
    end = pair.right.get_protocol()
    assert isinstance(end, TunnelEnd)
    end.follow_frames(b"")
    return end


async def test_ended_between_two_frames() -> None:
    """Ended between frames, the client gets a Close and may answer it; its data is dropped."""
    pair = Pair()
    end = spoken(pair)
    pair.right.feed(b"\x82\x02ab")
    end.end()
    assert pair.left.drain() == b"\x82\x02ab" + close_frame(POLICY_VIOLATION)
    await rest()
    assert pair.right.aborted
    assert not pair.left.is_closing()
    pair.left.feed(b"its own Close")
    pair.left.feed_eof()
    await rest()
    assert not pair.left.aborted
    assert sorted(pair.closed) == ["left", "right"]


async def test_ended_within_a_frame() -> None:
    """Ended within a frame, the frame is completed first and nothing follows the Close."""
    pair = Pair()
    end = spoken(pair)
    pair.right.feed(b"\x82\x04ab")
    end.end()
    assert pair.left.drain() == b"\x82\x04ab"
    pair.right.feed(b"cd\x82\x01e")
    assert pair.left.drain() == b"cd" + close_frame(POLICY_VIOLATION)
    await rest()
    assert pair.right.aborted


async def test_ended_within_a_frame_that_does_not_end() -> None:
    """Ended within a frame that is never completed, the tunnel is aborted."""
    pair = Pair()
    end = spoken(pair)
    pair.right.feed(b"\x82\x04ab")
    end.end()
    await until(lambda: pair.left.aborted and pair.right.aborted)


async def test_going_away() -> None:
    """On shutdown both sides get a Close, nothing after it, and time to answer it."""
    pair = Pair()
    client = pair.left.get_protocol()
    assert isinstance(client, TunnelEnd)
    client.follow_frames(b"")
    spoken(pair).go_away()
    assert pair.left.drain() == close_frame(GOING_AWAY)
    assert pair.right.drain() == masked_close_frame(GOING_AWAY)
    pair.right.feed(b"\x82\x02ab")  # sent before it has read the Close
    assert pair.left.drain() == b""
    assert not pair.right.is_closing()
    pair.left.feed(b"\x88\x80mask")
    assert pair.right.drain() == b""
    pair.left.feed_eof()
    await rest()
    assert sorted(pair.closed) == ["left", "right"]
    assert not pair.left.aborted
    assert not pair.right.aborted


async def test_going_away_from_who_does_not_close() -> None:
    """If neither side answers the Close, both are closed after a while."""
    pair = Pair()
    client = pair.left.get_protocol()
    assert isinstance(client, TunnelEnd)
    client.follow_frames(b"")
    spoken(pair).go_away()
    await until(lambda: pair.left.is_closing() and pair.right.is_closing())
    assert not pair.right.aborted


async def test_going_away_within_a_frame_of_the_client() -> None:
    """Within a client's frame the upstream gets no Close, which would be read as frame data."""
    pair = Pair()
    client = pair.left.get_protocol()
    assert isinstance(client, TunnelEnd)
    client.follow_frames(b"")
    pair.left.feed(b"\x82\x84mask12")
    spoken(pair).go_away()
    assert pair.left.drain() == close_frame(GOING_AWAY)
    assert pair.right.drain() == b"\x82\x84mask12"
    assert pair.right.is_closing()


async def test_going_away_from_another_protocol() -> None:
    """On shutdown a tunnel that is no WebSocket continues until it is cut off."""
    pair = Pair()
    end = pair.right.get_protocol()
    assert isinstance(end, TunnelEnd)
    end.go_away()
    pair.right.feed(b"more")
    assert pair.left.drain() == b"more"
    assert not pair.left.is_closing()


async def test_another_protocol_is_cut() -> None:
    """When its session ends, a tunnel that is no WebSocket is aborted."""
    pair = Pair()
    end = pair.right.get_protocol()
    assert isinstance(end, TunnelEnd)
    end.end()
    await rest()
    assert pair.left.aborted
    assert pair.right.aborted


async def test_a_side_that_takes_nothing_is_given_up() -> None:
    """Unread data does not keep a tunnel open beyond the send limit."""
    plane = Plane()
    wire = plane.connect(hold=True)
    wire.feed(ASK)
    await rest()
    upstream = plane.connector.wires[0]
    upstream.feed(SWITCH + b"x")
    upstream.feed_eof()
    await rest()
    assert wire.is_closing()
    plane.listener.sweep(monotonic() + plane.context.limits.send_timeout - 1)
    assert not wire.lost
    plane.listener.sweep(monotonic() + plane.context.limits.send_timeout + 1)
    assert wire.aborted


async def left_by_its_client(plane: Plane) -> MemoryTransport:
    """Return the upstream wire of a tunnel whose client is gone and whose data is unread."""
    wire = plane.connect()
    wire.feed(ASK)
    await rest()
    upstream = plane.connector.wires[0]
    upstream.feed(SWITCH)
    upstream.hold = True
    wire.feed(b"x" * 200_000)
    wire.feed_eof()
    await rest()
    assert wire.lost
    assert plane.context.metrics.connections == {"downstream": 0, "upstream": 1}
    assert not upstream.lost
    return upstream


async def test_an_upstream_that_takes_nothing_of_what_a_client_left() -> None:
    """The send limit also applies to the only remaining end of a tunnel."""
    plane = Plane()
    upstream = await left_by_its_client(plane)
    plane.listener.sweep(monotonic() + plane.context.limits.send_timeout - 1)
    assert not upstream.lost
    plane.listener.sweep(monotonic() + plane.context.limits.send_timeout + 1)
    await rest()
    assert upstream.aborted
    assert plane.context.metrics.connections == {"downstream": 0, "upstream": 0}
    assert repr(plane.listener) == "<Listener closed connections=0>"


async def test_stopping_gives_an_upstream_what_a_client_left() -> None:
    """A stop waits until the upstream has read what its client left."""
    plane = Plane()
    upstream = await left_by_its_client(plane)
    stopping = plane.context.tasks.spawn(plane.listener.stop(60.0), name="stop")
    await rest()
    assert not stopping.done()
    assert upstream.drain() == b"x" * 200_000
    await stopping
    assert not upstream.aborted


@pytest.mark.parametrize("left", [True, False])
async def test_stopping_does_not_wait_for_ever_for_a_tunnel(*, left: bool) -> None:
    """Both ends are aborted after the grace period, even if only the upstream's remains."""
    plane = Plane()
    if left:
        upstream = await left_by_its_client(plane)
    else:
        wire = plane.connect()
        wire.feed(ASK)
        await rest()
        upstream = plane.connector.wires[0]
        upstream.hold = True
        upstream.feed(SWITCH)
        wire.feed(b"part of a frame")
    await plane.listener.stop(0.0)
    assert upstream.aborted
    assert upstream.lost
    assert plane.context.metrics.connections == {"downstream": 0, "upstream": 0}


async def test_a_lost_side_is_closed_once() -> None:
    """Each side is closed only once, even if both end at the same time."""
    pair = Pair()
    pair.left.lose(None)
    pair.right.lose(None)
    await rest()
    assert sorted(pair.closed) == ["left", "right"]
    assert not pair.left.aborted
    assert not pair.right.aborted


async def test_opening() -> None:
    """The tunnel takes over both wires at the 101 and loses no early data of either side."""
    plane = Plane()
    wire = plane.connect()
    wire.feed(ASK + b"early")
    await rest()
    upstream = plane.connector.wires[0]
    assert upstream.take().endswith(b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    upstream.feed(SWITCH + b"greeting")
    answer = wire.take()
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert answer.endswith(b"\r\n\r\ngreeting")
    assert upstream.take() == b"early"
    wire.feed(b"GET / HTTP/1.1\r\n\r\n")
    assert upstream.take() == b"GET / HTTP/1.1\r\n\r\n"
    assert repr(plane.pool.pool) == "<Pool idle=0 leased=0 opening=0 waiting=0 limit=256>"
    assert plane.context.metrics.connections == {"downstream": 1, "upstream": 1}
    wire.feed_eof()
    await rest()
    assert plane.context.metrics.connections == {"downstream": 0, "upstream": 0}
    assert repr(plane.listener) == "<Listener closed connections=0>"


async def test_opening_while_the_client_is_full() -> None:
    """A read pause from before the 101 is lifted by the tunnel."""
    plane = Plane()
    wire = plane.connect(hold=True)
    wire.feed(ASK)
    await rest()
    upstream = plane.connector.wires[0]
    wire.set_write_buffer_limits(high=100)
    upstream.feed(SWITCH + b"x" * 200)
    upstream.feed(b"y") if upstream.reading else None
    wire.drain()
    assert upstream.reading
    upstream.feed(b"z")
    assert wire.drain() == b"z"
