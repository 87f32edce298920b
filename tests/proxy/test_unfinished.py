"""What clients have sent of unfinished requests is kept within one limit for all of them."""

from __future__ import annotations

import tracemalloc
from ipaddress import ip_network
from typing import TYPE_CHECKING, Final

import pytest

from sidecar.auth.route_rule import Access, RouteRule
from sidecar.proxy.held import HeldOctets
from sidecar.proxy.upstream_pool import UpstreamPoolLimits
from tests.proxy.memory_plane import OK, Plane, rest

if TYPE_CHECKING:
    from tests.peers.memory_transport import MemoryTransport

RULES: Final = (
    RouteRule(path="/auth/*", access=Access.PUBLIC, target="api"),
    RouteRule(path="/*", access=Access.PUBLIC),
)
GET: Final = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
HEAD: Final = b"GET / HTTP/1.1\r\nHost: h\r\nX-Padding: " + b"a" * 3000  # and no end
LOGIN: Final = b"POST /auth/login HTTP/1.1\r\nHost: h\r\nContent-Length: 4000\r\n\r\n" + b"b" * 3000
LONG_LOGIN: Final = HEAD.replace(b"GET /", b"POST /auth/login") + (
    b"\r\nContent-Length: 40\r\n\r\n"
)


def crowded(limit: int = 10_000) -> Plane:
    """A plane that keeps so many octets of unfinished requests."""
    plane = Plane(RULES)
    plane.context.unfinished = HeldOctets(limit)
    return plane


def statuses(wires: list[MemoryTransport]) -> list[int]:
    """The status of each answer; 0 without one."""
    answers = [wire.take() for wire in wires]
    return [int(answer[9:12]) if answer else 0 for answer in answers]


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(HEAD, id="heads"),
        pytest.param(LOGIN, id="bodies-of-logins"),
        pytest.param(LONG_LOGIN, id="heads-of-logins"),
    ],
)
async def test_the_oldest_give_way(part: bytes) -> None:
    """Beyond the limit, the requests that began first get 503; the newest are kept."""
    plane = crowded()
    wires = [plane.connect() for _ in range(10)]
    for wire in wires:
        wire.feed(part)
        await rest()
        assert plane.context.unfinished.total <= 10_000
    found = [wire.take() for wire in wires]
    assert all(answer.startswith(b"HTTP/1.1 503 ") for answer in found[:7])
    assert all(b"\r\nRetry-After: 1\r\n" in answer for answer in found[:7])
    assert found[7:] == [b""] * 3
    assert plane.context.metrics.clients_refused["unfinished"] == 7
    for wire in wires:
        wire.lose(None)
    await rest()
    assert plane.context.unfinished.total == 0
    assert plane.context.metrics.in_flight == 0


async def test_a_whole_request_is_never_too_much() -> None:
    """A request that arrives at once is served however much others keep, and keeps nothing."""
    plane = crowded(limit=3200)
    slow = plane.connect()
    slow.feed(HEAD)
    before = plane.context.unfinished.total
    wire = plane.connect()
    assert await plane.ask(wire, HEAD + b"\r\n\r\n")
    assert statuses([slow, wire]) == [0, 200]
    assert plane.context.unfinished.total == before > 0


async def test_an_octet_now_and_then_makes_nobody_younger() -> None:
    """A client that sends a little more from time to time is still the one that began first."""
    plane = crowded()
    first = plane.connect()
    first.feed(HEAD)
    others = [plane.connect() for _ in range(3)]
    for wire in others:
        first.feed(b"a")
        wire.feed(HEAD)
    assert statuses([first, *others]) == [503, 0, 0, 0]


@pytest.mark.parametrize(
    ("part", "end"),
    [
        pytest.param(HEAD, b"\r\n\r\n", id="head"),
        pytest.param(LOGIN, b"b" * 1000, id="body-of-a-login"),
        pytest.param(LONG_LOGIN, b"b" * 40, id="head-of-a-login"),
    ],
)
async def test_a_finished_request_keeps_nothing(part: bytes, end: bytes) -> None:
    """Once the rest has arrived the request is forwarded, and no longer counts."""
    plane = crowded()
    wire = plane.connect()
    wire.feed(part)
    assert plane.context.unfinished.total >= 3000
    sent = await plane.ask(wire, end)
    assert sent.endswith(end)
    assert plane.context.unfinished.total == 0
    assert statuses([wire]) == [200]


async def test_a_body_in_tiny_pieces_takes_no_more_memory() -> None:
    """A body that arrives two octets at a time is not kept as thousands of objects."""
    plane = Plane(RULES)
    wire = plane.connect()
    wire.feed(b"POST /auth/login HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n")
    tracemalloc.start()
    try:
        for _ in range(29_999):
            wire.feed(bytes(2))
        assert tracemalloc.get_traced_memory()[0] < 120_000
    finally:
        tracemalloc.stop()
    assert (await plane.ask(wire, bytes(2))).endswith(b"\r\n\r\n" + bytes(60_000))


async def test_pipelined_requests_count() -> None:
    """Requests behind one that is being answered count too, and their client is cut first."""
    plane = crowded()
    first = plane.connect()
    first.feed(GET + HEAD + b"a" * 3000)
    await rest()
    assert 6000 <= plane.context.unfinished.total <= 6100
    second = plane.connect()
    second.feed(HEAD * 2)
    await rest()
    assert first.aborted
    assert not second.is_closing()
    assert plane.connector.wires[0].aborted
    assert plane.context.metrics.in_flight == 0


async def test_pipelined_requests_that_are_read() -> None:
    """What has been read no longer counts, and every request is answered."""
    plane = crowded()
    wire = plane.connect()
    wire.feed(GET * 3)
    for _ in range(3):
        await rest()
        plane.connector.wires[0].feed(OK)
    await rest()
    assert wire.take().count(b"HTTP/1.1 200 ") == 3
    assert plane.context.unfinished.total == 0


async def test_a_login_behind_another_request() -> None:
    """A connection may keep both, and whichever gives up, nothing is left of the other."""
    plane = crowded()
    wire = plane.connect()
    wire.feed(GET + LOGIN)
    await rest()
    plane.connector.wires[0].feed(OK)
    await rest()
    assert 3000 <= plane.context.unfinished.total <= 3200
    plane.connect().feed(HEAD * 3)
    assert wire.take().count(b"HTTP/1.1 503 ") == 1
    wire.lose(None)
    await rest()
    assert plane.context.metrics.in_flight == 0


async def test_a_long_head_that_waits_with_its_body_counts() -> None:
    """Uploads take room for their heads too: no number of them keeps more than the buffer holds."""
    plane = Plane(RULES, pool_limits=UpstreamPoolLimits(connections=2))
    plane.context.staged = HeldOctets(60_000)
    wires = [plane.connect(address=f"192.0.2.{number}") for number in range(40)]
    for wire in wires:
        wire.feed(HEAD.replace(b"GET", b"POST") + b"\r\nContent-Length: 40\r\n\r\n")
        await rest()
        assert plane.context.staged.total <= 60_000
    found = statuses(wires)
    assert found.count(503) >= 20
    assert found.count(0) >= 8
    for wire in wires:
        wire.lose(None)
    await rest()
    assert plane.context.staged.total == 0


# What parsers remember of the last head


def request(length: int, number: int = 0) -> bytes:
    """A whole request with a header of this length."""
    return b"GET /%d HTTP/1.1\r\nHost: h\r\nCookie: c=%b\r\n\r\n" % (number, b"a" * length)


async def test_remembered_heads_are_bounded() -> None:
    """The parsers of idle connections keep a limited number of octets, and the oldest forget."""
    plane = Plane(RULES)
    memory = plane.context.remembered = HeldOctets(50_000)
    wires = [plane.connect() for _ in range(10)]
    for turn in range(3):
        for wire in wires:
            sent = await plane.ask(wire, request(3000, turn))
            assert sent.startswith(b"GET /%d HTTP/1.1\r\nHost: h\r\n" % turn)
            assert statuses([wire]) == [200]
            assert memory.total <= 50_000
    assert memory.total > 0
    for wire in wires:
        wire.lose(None)
    await rest()
    assert memory.total == 0


async def test_the_client_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """It is the one that the proxy has seen, not the one that the client has made up."""
    plane = Plane(RULES, trusted=[ip_network("10.0.0.0/8")])
    plane.context.unfinished = HeldOctets(1000)
    wire = plane.connect(address="10.0.0.1")
    said = b"Host: h\r\nX-Forwarded-For: 198.51.100.9, 203.0.113.5"
    wire.feed(LOGIN.replace(b"Host: h", said))
    assert statuses([wire]) == [503]
    (record,) = [each for each in caplog.records if each.msg == "clients are being refused"]
    assert record.__dict__["client"] == "203.0.113.5"
