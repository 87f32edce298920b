"""Excess requests, connections and slow bodies are refused cheaply, before anything is read."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.auth.reason import Reason
from sidecar.auth.route_rule import Access, RouteRule
from sidecar.proxy import client_connection
from sidecar.proxy.context import Limits
from tests.proxy.memory_plane import OK, Plane, rest

if TYPE_CHECKING:
    from tests.peers.memory_transport import MemoryTransport
    from tests.proxy.crank import Crank

GET: Final = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
POST: Final = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n"
RULES: Final = (
    RouteRule(path="/auth/verify/*", access=Access.PUBLIC, target="verify"),
    RouteRule(path="/*", access=Access.PUBLIC),
)


def full(limits: Limits) -> tuple[Plane, MemoryTransport]:
    """Return a plane whose single request slot is in use, and the wire of that request."""
    plane = Plane(RULES, limits=limits)
    wire = plane.connect()
    wire.feed(GET)
    return plane, wire


# Requests in flight


async def test_one_request_too_many() -> None:
    """A request over the limit gets 503 and Retry-After; its connection stays usable."""
    plane, busy = full(Limits(requests=1))
    await rest()
    other = plane.connect()
    other.feed(GET)
    answer = other.take()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1\r\n" in answer
    assert b"Connection: close" not in answer
    assert plane.context.metrics.denied[Reason.OVERLOADED.label] == 1
    plane.connector.wires[0].feed(OK)
    await rest()
    assert busy.take().startswith(b"HTTP/1.1 200 ")
    await plane.ask(other, GET)
    assert other.take().startswith(b"HTTP/1.1 200 ")
    assert plane.context.metrics.in_flight == 0


async def test_nothing_of_its_body_is_read() -> None:
    """A refused request with a body never reaches the upstream, and its connection closes."""
    plane, _ = full(Limits(requests=1))
    await rest()
    other = plane.connect()
    other.feed(POST + b"some")
    answer = other.take()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nConnection: close\r\n" in answer
    assert len(plane.connector.wires) == 1


@pytest.mark.parametrize(
    ("dialect", "status"),
    [("nginx", 403), ("envoy", 403), ("traefik", 503), ("caddy", 503), ("haproxy", 503)],
)
async def test_a_subrequest_too_many(dialect: str, status: int) -> None:
    """An excess subrequest gets its dialect's status; for Envoy a 503 might mean permission.

    Retry-After distinguishes it from a denial that lasts.
    """
    plane, _ = full(Limits(requests=1))
    await rest()
    other = plane.connect()
    other.feed(f"GET /auth/verify/{dialect} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    answer = other.take()
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nRetry-After: 1\r\n" in answer


# Connections


async def test_a_flood_of_connections() -> None:
    """Over the limit, a few connections get 503 and the rest are closed without an answer."""
    plane = Plane(limits=Limits(connections=2))
    kept = [plane.connect() for _ in range(2)]
    told = [plane.connect() for _ in range(client_connection.ANSWERED_OVER_LIMIT)]
    cut = [plane.connect() for _ in range(10)]
    await rest()
    assert not any(wire.is_closing() for wire in kept)
    assert all(wire.take().startswith(b"HTTP/1.1 503 ") for wire in told)
    assert all(wire.aborted and wire.written == b"" for wire in cut)
    plane.listener.sweep(monotonic() + 100.0)
    await rest()
    assert repr(plane.listener) == "<Listener closed connections=0>"


# Slow request bodies


SLOW: Final = Limits(body_buffer=0, body_rate=500.0, body_grace=20.0, upstream_timeout=60.0)


async def uploading(plane: Plane) -> tuple[MemoryTransport, MemoryTransport]:
    """Start an upload; return the client's wire and the upstream's."""
    wire = plane.connect()
    wire.feed(POST)
    await rest()
    return wire, plane.connector.wires[0]


async def test_an_octet_now_and_then(crank: Crank) -> None:
    """A body that arrives below the minimum rate gets 408 once it is 20 s behind."""
    plane = Plane(limits=SLOW)
    wire, upstream = await uploading(plane)
    for _ in range(18):
        crank.turn(plane, 1.0)
        wire.feed(b"x")
    assert wire.written == b""
    crank.turn(plane, 5.0)
    assert wire.take().startswith(b"HTTP/1.1 408 ")
    assert upstream.aborted


async def test_nothing_at_all(crank: Crank) -> None:
    """A body that never begins gets 408 after the same 20 s."""
    plane = Plane(limits=SLOW)
    wire, _ = await uploading(plane)
    crank.turn(plane, 19.0)
    assert wire.written == b""
    crank.turn(plane, 2.0)
    assert wire.take().startswith(b"HTTP/1.1 408 ")


async def test_as_fast_as_it_must(crank: Crank) -> None:
    """A body at the minimum rate may take as long as it needs."""
    plane = Plane(limits=SLOW)
    wire, upstream = await uploading(plane)
    for _ in range(190):
        crank.turn(plane, 10.0)
        wire.feed(b"x" * 5200)
        upstream.take()
    assert wire.written == b""
    assert not upstream.aborted


async def test_being_ahead_is_no_credit_for_ever(crank: Crank) -> None:
    """A megabyte sent at once earns no credit for later silence."""
    plane = Plane(limits=SLOW)
    wire, upstream = await uploading(plane)
    wire.feed(b"x" * 900_000)
    upstream.take()
    crank.turn(plane, 21.0)
    assert wire.take().startswith(b"HTTP/1.1 408 ")


async def test_an_upstream_that_takes_nothing(crank: Crank) -> None:
    """While the upstream accepts no data the client is not late; after that it has 20 s again."""
    plane = Plane(limits=SLOW)
    wire, _ = await uploading(plane)
    upstream: Any = plane.connector.wires[0].get_protocol()
    upstream.pause_writing()
    crank.turn(plane, 50.0)
    assert wire.written == b""
    upstream.resume_writing()
    crank.turn(plane, 15.0)
    assert wire.written == b""
    crank.turn(plane, 10.0)
    assert wire.take().startswith(b"HTTP/1.1 408 ")


async def test_no_rate_is_asked_for(crank: Crank) -> None:
    """With a rate of 0, only the time without any octet counts."""
    plane = Plane(limits=Limits(body_buffer=0, body_rate=0.0, upstream_timeout=60.0))
    wire, _ = await uploading(plane)
    for _ in range(10):
        crank.turn(plane, 55.0)
        wire.feed(b"x")
    assert wire.written == b""


async def test_a_client_that_waits_for_100(crank: Crank) -> None:
    """A client that expects 100 is not late before the application has sent it."""
    plane = Plane(limits=SLOW)
    wire = plane.connect()
    wire.feed(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    await rest()
    crank.turn(plane, 40.0)
    assert wire.written == b""
    plane.connector.wires[0].feed(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert wire.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.feed(b"x")
    crank.turn(plane, 21.0)
    assert wire.take().startswith(b"HTTP/1.1 408 ")
