"""A client that reads an answer too slowly is cut off; the upstream's slowness does not count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.proxy.context import Limits
from sidecar.proxy.flow import HIGH_WATER
from tests.proxy.memory_plane import Plane, rest
from tests.proxy.test_tunnel import ASK, SWITCH

if TYPE_CHECKING:
    from tests.peers.memory_transport import MemoryTransport
    from tests.proxy.crank import Crank

GET: Final = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
LAST: Final = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
POST: Final = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n"
ENDLESS: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"
LIMITS: Final = Limits(body_buffer=0, send_rate=500.0, send_timeout=30.0)
MUCH: Final = b"x" * (HIGH_WATER + 1000)


async def downloading(plane: Plane) -> tuple[MemoryTransport, MemoryTransport]:
    """Return a client's wire full of an endless answer, and the wire of its upstream."""
    wire = plane.connect(hold=True)
    wire.feed(GET)
    await rest()
    upstream = plane.connector.wires[0]
    upstream.feed(ENDLESS + MUCH)
    assert not upstream.reading
    return wire, upstream


async def test_an_octet_now_and_then(crank: Crank) -> None:
    """A client that reads below the minimum rate is cut off once it is 30 s behind."""
    plane = Plane(limits=LIMITS)
    wire, upstream = await downloading(plane)
    client: Any = wire.get_protocol()
    exchange = client.exchange
    crank.turn(plane, 29.0)
    wire.drain(1)
    assert not wire.aborted
    crank.turn(plane, 2.0)
    assert wire.aborted
    assert upstream.aborted
    assert exchange.accounting.fault == "slow_reader"
    assert plane.context.route_metrics["all"].codes[200] == 1


async def test_as_fast_as_it_must(crank: Crank) -> None:
    """A client that reads at the minimum rate may take as long as it needs."""
    plane = Plane(limits=LIMITS)
    wire, upstream = await downloading(plane)
    for _ in range(200):
        crank.turn(plane, 10.0)
        wire.drain(5200)
        if upstream.reading:
            upstream.feed(MUCH)
    assert len(wire.written) == 200 * 5200
    assert not wire.aborted


async def test_being_ahead_is_no_credit_for_ever(crank: Crank) -> None:
    """A hundred thousand octets read at once earn no credit for later silence."""
    plane = Plane(limits=LIMITS)
    wire, _ = await downloading(plane)
    crank.turn(plane, 1.0)
    wire.drain(100_000)
    crank.turn(plane, 30.0)
    assert not wire.aborted
    crank.turn(plane, 1.0)
    assert wire.aborted


async def test_no_rate_is_asked_for(crank: Crank) -> None:
    """With a rate of 0, only the time without any octet counts."""
    plane = Plane(limits=Limits(send_rate=0.0, send_timeout=30.0))
    wire, _ = await downloading(plane)
    for _ in range(20):
        crank.turn(plane, 29.0)
        wire.drain(1)
    assert not wire.aborted
    crank.turn(plane, 31.0)
    assert wire.aborted


async def test_a_slow_application(crank: Crank) -> None:
    """A slow application does not count against its client, even if that was full before."""
    plane = Plane(limits=LIMITS)
    wire, upstream = await downloading(plane)
    crank.turn(plane, 5.0)
    wire.drain()
    for _ in range(20):
        crank.turn(plane, 60.0)
        upstream.feed(b"event")
        assert wire.drain() == b"event"
    crank.turn(plane, 3600.0)
    assert not wire.aborted


@pytest.mark.parametrize("way", ["close", "linger"])
async def test_the_rest_of_a_last_answer(crank: Crank, way: str) -> None:
    """A client that reads its last answer at the minimum rate gets all of it."""
    plane = Plane(limits=LIMITS)
    wire = plane.connect(hold=True)
    wire.feed(LAST if way == "close" else POST)
    await rest()
    body = b"x" * 200_000
    plane.connector.wires[0].feed(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + body)
    assert (wire.is_closing(), wire.eof_written) == (way == "close", way == "linger")
    while wire.get_write_buffer_size():
        assert not wire.aborted
        crank.turn(plane, 10.0)
        wire.drain(5200)
    crank.turn(plane, 3.0)
    assert wire.written.endswith(body)
    assert wire.lost


@pytest.mark.parametrize("way", ["close", "linger"])
@pytest.mark.parametrize(
    ("size", "left"),
    [
        pytest.param(1000, 1000, id="small"),
        pytest.param(len(MUCH), HIGH_WATER, id="large"),
        pytest.param(len(MUCH), 1000, id="end-of-large"),
    ],
)
async def test_who_does_not_take_a_last_answer(
    crank: Crank, way: str, size: int, left: int
) -> None:
    """A client that stops reading its last answer is cut off, however little of it is left.

    Octets read faster than the minimum rate earn no extra time, because no more data will follow.
    """
    plane = Plane(limits=LIMITS)
    wire = plane.connect(hold=True)
    wire.feed(LAST if way == "close" else POST)
    await rest()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
    plane.connector.wires[0].feed(head + MUCH[:size])
    wire.drain(wire.get_write_buffer_size() - left)
    crank.turn(plane, 29.0)
    assert not wire.aborted
    crank.turn(plane, 5.0)
    assert wire.aborted


@pytest.mark.parametrize("slow", ["client", "upstream"])
async def test_an_end_of_a_tunnel(crank: Crank, slow: str) -> None:
    """Either end of a tunnel is cut off for slow reading, however fast the other end reads."""
    plane = Plane(limits=LIMITS)
    client = plane.connect(hold=True)
    client.feed(ASK)
    await rest()
    upstream = plane.connector.wires[0]
    upstream.feed(SWITCH)
    client.drain()
    upstream.hold = True
    reader, writer = (client, upstream) if slow == "client" else (upstream, client)
    for _ in range(60):
        if writer.reading:
            writer.feed(MUCH)
        crank.turn(plane, 10.0)
        reader.drain(5200)
        reader.feed(b"quick")
        assert writer.drain() == b"quick"
    assert not reader.aborted
    crank.turn(plane, 29.0)
    reader.drain(1)
    reader.feed(b"quick")
    assert writer.drain() == b"quick"
    crank.turn(plane, 2.0)
    assert reader.aborted
    assert writer.aborted


async def test_an_end_of_a_tunnel_that_has_ended_itself(crank: Crank) -> None:
    """A tunnel end that has ended but does not read the remaining data is cut off in time."""
    plane = Plane(limits=LIMITS)
    client = plane.connect(hold=True)
    client.feed(ASK)
    await rest()
    plane.connector.wires[0].feed(SWITCH + b"the last")
    client.feed_eof()
    await rest()
    crank.turn(plane, 29.0)
    assert not client.lost
    crank.turn(plane, 2.0)
    assert client.aborted
