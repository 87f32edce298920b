"""The listener's sweep ends what has passed its deadline by the given clock, and nothing else."""

from __future__ import annotations

import asyncio
from time import monotonic

from sidecar.auth.route_rule import Access, RouteRule
from sidecar.proxy.connections import ConnectionSet
from sidecar.proxy.context import Limits
from sidecar.proxy.upstream_pool import UpstreamPoolLimits
from tests.proxy.memory_plane import OK, Plane, rest

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
LIMITS = Limits(header_timeout=10.0, idle_timeout=75.0, upstream_timeout=60.0, queue_timeout=5.0)


async def test_a_connection_that_asks_nothing() -> None:
    """A connection without a request head in time is closed without an answer."""
    plane = Plane(limits=LIMITS)
    wire = plane.connect()
    start = monotonic()
    plane.listener.sweep(start + 9.0)
    assert not wire.is_closing()
    plane.listener.sweep(start + 11.0)
    await rest()
    assert wire.lost
    assert wire.written == b""
    assert repr(plane.listener) == "<Listener closed connections=0>"


async def test_a_head_that_does_not_end() -> None:
    """Trickling octets do not extend the time for a head; when it is over, the answer is 408."""
    plane = Plane(limits=LIMITS)
    wire = plane.connect()
    start = monotonic()
    for octet in GET[:-1]:
        wire.feed(bytes([octet]))
    plane.listener.sweep(start + 9.0)
    assert wire.written == b""
    plane.listener.sweep(start + 11.0)
    assert wire.take().startswith(b"HTTP/1.1 408 ")
    assert wire.eof_written
    assert plane.context.malformed.codes[408] == 1
    plane.listener.sweep(start + 100.0)  # bytes that still arrive are not read for ever
    assert wire.aborted


async def test_an_idle_connection() -> None:
    """After an answer a connection may stay idle for longer than the time for a head."""
    plane = Plane(limits=LIMITS)
    wire = plane.connect()
    await plane.ask(wire, GET)
    assert wire.take().startswith(b"HTTP/1.1 200 ")
    start = monotonic()
    plane.listener.sweep(start + 70.0)
    assert not wire.is_closing()
    plane.listener.sweep(start + 80.0)
    assert wire.is_closing()
    assert wire.written == b""


async def test_an_upstream_that_does_not_answer() -> None:
    """If the upstream exceeds the time limit, the client gets 504 and its connection closes."""
    plane = Plane(limits=LIMITS)
    wire = plane.connect()
    wire.feed(GET)
    await rest()
    start = monotonic()
    plane.listener.sweep(start + 59.0)
    assert wire.written == b""
    plane.listener.sweep(start + 61.0)
    assert wire.take().startswith(b"HTTP/1.1 504 ")
    assert plane.connector.wires[0].aborted
    await rest()
    assert plane.pool.pool.leased == set()


async def test_no_connection_comes_free() -> None:
    """A request queued for too long gets 503 and leaves the queue."""
    plane = Plane(limits=LIMITS, pool_limits=UpstreamPoolLimits(connections=1))
    busy, waiting = plane.connect(), plane.connect()
    for wire in (busy, waiting):
        wire.feed(GET)
    await rest()
    assert len(plane.pool.pool.waiting) == 1
    plane.listener.sweep(monotonic() + 6.0)
    answer = waiting.take()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1\r\n" in answer
    assert busy.written == b""
    assert len(plane.pool.pool.waiting) == 0


async def test_an_answer_under_way_has_no_deadline() -> None:
    """An answer that has begun has no deadline."""
    plane = Plane(limits=LIMITS)
    wire = plane.connect()
    wire.feed(GET)
    await rest()
    plane.connector.wires[0].feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    plane.listener.sweep(monotonic() + 1e6)
    plane.connector.wires[0].feed(b"1\r\nx\r\n")
    assert wire.take().endswith(b"\r\n\r\n1\r\nx\r\n")


async def test_a_client_that_takes_nothing() -> None:
    """An answer that the client does not read is aborted together with its upstream connection."""
    plane = Plane(limits=LIMITS)
    wire = plane.connect(hold=True)
    wire.feed(GET)
    await rest()
    upstream = plane.connector.wires[0]
    upstream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n" + b"x" * 300_000)
    assert not upstream.reading
    limit = plane.context.limits.send_timeout
    plane.listener.sweep(monotonic() + limit - 1)
    assert not wire.aborted
    plane.listener.sweep(monotonic() + limit + 1)
    await rest()
    assert wire.aborted
    assert upstream.aborted
    assert repr(plane.listener) == "<Listener closed connections=0>"


async def test_a_connection_that_was_full_serves_the_next_request() -> None:
    """An upstream connection paused for a slow client is read again when it is reused."""
    plane = Plane(limits=LIMITS)
    wire = plane.connect(hold=True)
    wire.feed(GET)
    await rest()
    upstream = plane.connector.wires[0]
    upstream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000)
    await rest()
    assert upstream.reading
    wire.drain()
    upstream.take()
    wire.feed(GET)
    await rest()
    assert upstream.take().startswith(b"GET / HTTP/1.1\r\n")
    upstream.feed(OK)
    assert wire.drain().endswith(b"\r\n\r\nok")


async def test_one_sweep_strikes_them_all() -> None:
    """One sweep ends all late connections and idle upstream connections and leaves the others."""
    plane = Plane(limits=LIMITS, pool_limits=UpstreamPoolLimits(idle_timeout=60.0))
    late = [plane.connect() for _ in range(3)]
    kept = plane.connect()
    await plane.ask(kept, GET)
    plane.listener.sweep(monotonic() + 61.0)
    await rest()
    assert [wire.lost for wire in late] == [True] * 3
    assert not kept.is_closing()
    assert plane.connector.wires[0].aborted
    assert repr(plane.pool.pool) == "<Pool idle=0 leased=0 opening=0 waiting=0 limit=256>"


async def test_stopping() -> None:
    """On stop, idle connections close at once and busy ones after an answer that says so."""
    plane = Plane((RouteRule(path="/*", access=Access.PUBLIC),), limits=LIMITS)
    idle, busy = plane.connect(), plane.connect()
    await plane.ask(idle, GET)
    busy.feed(GET)
    await rest()
    stopping = plane.context.tasks.spawn(plane.listener.stop(5.0), name="stop")
    await rest()
    assert idle.lost
    assert not busy.lost
    assert not stopping.done()
    next(wire for wire in plane.connector.wires if wire.written).feed(OK)
    await stopping
    assert b"\r\nConnection: close\r\n" in busy.take()
    assert plane.pool.pool.idle == []


async def test_requests_in_line_when_it_stops() -> None:
    """On stop, pipelined requests behind an answer that says `close` are read and dropped.

    With unread octets in its receive buffer, a plain close would send a reset and might destroy
    that answer (RFC 9112 section 9.6).
    """
    plane = Plane(limits=LIMITS)
    wire = plane.connect()
    wire.feed(GET + GET)
    await rest()
    plane.listener.announce()
    plane.connector.wires[0].feed(OK)
    assert b"\r\nConnection: close\r\n" in wire.take()
    assert wire.eof_written
    assert not wire.is_closing()
    wire.feed(GET)  # read and dropped
    assert wire.written == b""
    plane.listener.sweep(monotonic() + LIMITS.linger + 1)
    assert wire.aborted
    assert len(plane.connector.wires) == 1


async def test_stopping_does_not_wait_for_ever() -> None:
    """Connections that outlive the grace period of a stop are aborted."""
    plane = Plane(limits=LIMITS)
    wire = plane.connect()
    wire.feed(GET)
    await rest()
    await plane.listener.stop(0.0)
    assert wire.aborted
    assert plane.connector.wires[0].aborted


async def test_one_that_arrives_when_it_has_stopped() -> None:
    """A connection accepted during a stop has one second to send a request, not the full time."""
    plane = Plane(limits=LIMITS)
    busy = plane.connect()
    busy.feed(GET)
    await rest()
    stopping = plane.context.tasks.spawn(plane.listener.stop(5.0), name="stop")
    await rest()
    late = plane.connect()
    plane.listener.sweep(monotonic() + 1.1)
    assert late.lost
    next(wire for wire in plane.connector.wires if wire.written).feed(OK)
    await stopping


async def test_home_is_not_empty_while_one_arrives() -> None:
    """A connection set is not empty while an arrival is expected, even if another one leaves."""
    connections, plane = ConnectionSet(), Plane(limits=LIMITS)
    arrived = asyncio.Event()
    arrival = plane.context.tasks.spawn(_waits_for(arrived), "arrival")
    connections.expect(arrival)
    other = plane.listener.make_protocol()
    connections.add(other)
    connections.remove(other)
    assert not connections.empty.is_set()
    arrived.set()
    await arrival
    await rest()
    assert connections.empty.is_set()
    assert not connections.arriving


async def _waits_for(event: asyncio.Event) -> None:
    await event.wait()
