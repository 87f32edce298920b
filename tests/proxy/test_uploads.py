"""Unfinished request bodies are buffered first, and never take the whole pool from others."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network
from time import time
from typing import TYPE_CHECKING, Final, cast

import jwt
import pytest

from sidecar.auth.route_rule import Access, RouteRule
from sidecar.proxy.context import Limits
from sidecar.proxy.held import HeldOctets
from sidecar.proxy.upstream_pool import UNREAD, UpstreamPoolLimits
from sidecar.sessions.memory.local import LocalStore
from sidecar.wire.client_address import NamedClients
from sidecar.wire.forwarded import Forwarding
from sidecar.wire.head import RequestHead
from tests.peers.http_text import chunked
from tests.proxy.memory_plane import OK, SECRET, Plane, rest
from tests.proxy.test_hot_path import log_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.auth.session import Session
    from sidecar.sessions.store import SessionStore
    from tests.peers.memory_transport import MemoryTransport
    from tests.proxy.crank import Crank

GET: Final = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
BUFFER: Final = 1000  # octets; what the tests buffer of a body
LIMITS: Final = Limits(body_buffer=BUFFER)
FOUR: Final = UpstreamPoolLimits(connections=4)
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


def post(size: int = 10 * BUFFER, *lines: str) -> bytes:
    """Return the head of an upload of so many octets."""
    more = "".join(f"{line}\r\n" for line in lines)
    return f"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n{more}\r\n".encode()


def address(number: int) -> str:
    """Return the address of a client."""
    return f"192.0.2.{number}"


async def upload(plane: Plane, caller: int = 1, octets: int = BUFFER) -> MemoryTransport:
    """Start an upload from this address, of which so many octets have arrived."""
    wire = plane.connect(address=address(caller))
    wire.feed(post())
    wire.feed(b"x" * octets)
    await rest()
    return wire


async def served(plane: Plane, caller: int = 200) -> bool:
    """Whether a small request from this address is answered 200 at once."""
    wire = plane.connect(address=address(caller))
    for upstream in plane.connector.wires:
        upstream.take()  # what was sent of uploads is not to be answered
    await plane.ask(wire, GET)
    answer = wire.take()
    wire.close()
    await rest()
    return answer.startswith(b"HTTP/1.1 200 ")


def idle(plane: Plane) -> bool:
    """Whether nothing of any request is left."""
    return (
        not plane.context.metrics.in_flight
        and not plane.context.staged.total
        and not plane.pool.uploads.admitted
        and not plane.pool.uploads.waiting
        and not plane.pool.pool.leased
    )


class SlowStore:
    """A store that has to be asked, and answers once it is released.

    It has a `LocalStore` and is none, because a compiled class has no subclasses in tests.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._kept = LocalStore(clock)
        self.released = asyncio.Event()

    def __getattr__(self, name: str) -> object:
        return getattr(self._kept, name)

    def peek(self, token_id: str) -> Session | None:
        """Return None: nothing is known without asking."""
        return None

    async def get(self, token_id: str) -> Session | None:
        """Wait, and return the session."""
        await self.released.wait()
        return self._kept.peek(token_id)

    def use_in(self, plane: Plane) -> None:
        """Let the plane ask this store."""
        plane.context.store = cast("SessionStore", self)


# The first part


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_small_body_is_sent_when_it_is_complete(framing: str) -> None:
    """A body that arrives in pieces takes no connection before its end, and then arrives whole."""
    plane = Plane(limits=LIMITS)
    wire = plane.connect()
    body = b"hello"
    head = post(5)
    if framing == "chunked":
        body = chunked(b"he", b"llo")[:-2] + b"X-Sum: 7\r\n\r\n"
        head = head.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked")
    wire.feed(head)
    for at in range(len(body)):
        await rest()
        assert plane.connector.wires == []
        wire.feed(body[at : at + 1])
    await rest()
    (upstream,) = plane.connector.wires
    assert len(upstream.writes) == 1
    assert upstream.take().endswith(b"\r\n\r\n" + body)
    upstream.feed(OK)
    await rest()
    assert wire.take().endswith(b"ok")
    assert idle(plane)
    assert await plane.ask(wire, GET)  # the connection serves another request


async def test_a_body_that_trickles_holds_no_connection(crank: Crank) -> None:
    """Below the buffer's size, a slow body reaches no upstream; it gets 408 when it is too slow."""
    plane = Plane(limits=LIMITS)
    wire = await upload(plane, octets=1)
    for _ in range(18):
        crank.turn(plane, 1.0)
        wire.feed(b"x")
    assert wire.written == b""
    crank.turn(plane, 5.0)
    assert wire.take().startswith(b"HTTP/1.1 408 ")
    await rest()
    assert plane.connector.wires == []
    assert idle(plane)


async def test_a_silent_body_is_given_up(crank: Crank) -> None:
    """Without a minimum rate, a buffered body may pause as long as an answer may take."""
    plane = Plane(limits=Limits(body_rate=0.0, upstream_timeout=60.0))
    wire = await upload(plane, octets=1)
    crank.turn(plane, 59.0)
    wire.feed(b"x")
    crank.turn(plane, 59.0)
    assert wire.written == b""
    crank.turn(plane, 2.0)
    assert wire.take().startswith(b"HTTP/1.1 408 ")
    assert idle(plane)


async def test_a_large_body_is_streamed_once_the_buffer_is_full() -> None:
    """The request is sent with what was buffered, and what follows is passed on as it arrives."""
    plane = Plane(limits=LIMITS)
    wire = await upload(plane, octets=BUFFER - 1)
    assert plane.connector.wires == []
    wire.feed(b"y")
    await rest()
    (upstream,) = plane.connector.wires
    assert upstream.take().endswith(b"\r\n\r\n" + b"x" * (BUFFER - 1) + b"y")
    wire.feed(b"more")
    assert upstream.take() == b"more"
    assert plane.context.staged.total == 0
    wire.feed(b"z" * (9 * BUFFER - 4))
    upstream.feed(OK)
    assert wire.take().endswith(b"ok")
    assert idle(plane)


async def test_nothing_is_buffered_if_that_is_configured() -> None:
    """With a buffer of 0, a request is forwarded before any of its body has arrived."""
    plane = Plane(limits=Limits(body_buffer=0))
    plane.connect().feed(post())
    await rest()
    assert plane.connector.wires[0].take().startswith(b"POST / HTTP/1.1\r\n")


async def test_the_application_answers_an_expectation(crank: Crank) -> None:
    """Its 100 is awaited and passed on, and then it is the client that must not be late."""
    plane = Plane(limits=LIMITS)
    wire = plane.connect()
    wire.feed(post(10 * BUFFER, "Expect: 100-continue"))
    await rest()
    (upstream,) = plane.connector.wires
    assert b"Expect: 100-continue\r\n" in upstream.take()
    crank.turn(plane, 40.0)
    assert wire.written == b""
    upstream.feed(CONTINUE)
    assert wire.take() == CONTINUE
    crank.turn(plane, 19.0)
    assert wire.written == b""
    crank.turn(plane, 2.0)
    assert wire.take().startswith(b"HTTP/1.1 408 ")
    assert upstream.aborted


# The share of the pool


async def test_uploads_leave_half_of_the_pool() -> None:
    """However many uploads there are, from however many addresses, other requests find room."""
    plane = Plane(limits=LIMITS, pool_limits=FOUR)
    for caller in range(1, 21):
        await upload(plane, caller)
    assert len(plane.connector.wires) == 1 + 1
    for _ in range(3):
        assert await served(plane)


async def test_one_address_leaves_room_for_the_uploads_of_others() -> None:
    """An address holds no more connections with uploads than it leaves free for others."""
    plane = Plane(limits=LIMITS, pool_limits=UpstreamPoolLimits(connections=16))
    for _ in range(300):
        await upload(plane, 1)
    assert len(plane.connector.wires) == 4
    for caller in (2, 3):
        other = await upload(plane, caller)
        other.feed(b"x" * (9 * BUFFER))
        plane.connector.wires[-1].feed(OK)
        assert other.take().endswith(b"ok")
    assert await served(plane)


@pytest.mark.parametrize("way", ["complete", "answered", "gone", "broken", "late", "malformed"])
async def test_the_end_of_an_upload_lets_the_next_one_begin(crank: Crank, way: str) -> None:
    """Whatever ends an upload, the one that waited for its place is sent whole."""
    plane = Plane(limits=LIMITS, pool_limits=FOUR)
    head = post().replace(b"Content-Length: 10000", b"Transfer-Encoding: chunked")
    first, second = plane.connect(), plane.connect()
    for wire in (first, second):
        wire.feed(head + b"3e8\r\n" + b"x" * BUFFER)
        await rest()
    (upstream,) = plane.connector.wires
    assert not second.reading
    if way == "complete":
        first.feed(b"\r\n0\r\n\r\n")
    elif way == "answered":
        upstream.feed(OK)
    elif way == "gone":
        first.lose(None)
    elif way == "broken":
        upstream.lose(ConnectionResetError())
    elif way == "late":
        second.lose(None)
        crank.turn(plane, 19.0)
        second = plane.connect()
        second.feed(head + b"3e8\r\n" + b"x" * BUFFER)
        crank.turn(plane, 2.0)
    else:
        first.feed(b"!!")
    await rest()
    assert len(plane.connector.wires) == 2
    assert plane.connector.wires[1].take().endswith(b"x" * BUFFER)
    second.feed(b"\r\n0\r\n\r\n")
    for each in plane.connector.wires:
        if not each.is_closing() and each.get_protocol().exchange is not None:  # type: ignore[attr-defined]
            each.feed(OK)
    assert second.take().endswith(b"ok")
    await rest()
    assert idle(plane)


async def test_a_waiting_upload_is_answered_in_time(crank: Crank) -> None:
    """An upload that finds no place gets 503 and Retry-After; its client may try again."""
    plane = Plane(limits=LIMITS, pool_limits=FOUR)
    await upload(plane)
    waiting = await upload(plane)
    crank.turn(plane, 4.0)
    assert waiting.written == b""
    crank.turn(plane, 2.0)
    answer = waiting.take()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1\r\n" in answer
    assert len(plane.pool.uploads.waiting) == 0
    assert await served(plane)


async def test_a_client_that_leaves_while_it_waits() -> None:
    """An upload that was given up while it waited for its place takes none."""
    plane = Plane(limits=LIMITS, pool_limits=FOUR)
    first, second, third = [await upload(plane) for _ in range(3)]
    second.lose(None)
    await rest()
    first.lose(None)
    await rest()
    third.feed(b"x" * (9 * BUFFER))
    plane.connector.wires[1].feed(OK)
    assert third.take().endswith(b"ok")
    assert idle(plane)


async def test_more_uploads_than_may_wait() -> None:
    """Beyond the number that may wait, an upload gets 503 at once."""
    plane = Plane(limits=LIMITS, pool_limits=UpstreamPoolLimits(connections=4, waiting=1))
    await upload(plane)
    await upload(plane)
    refused = await upload(plane)
    assert refused.take().startswith(b"HTTP/1.1 503 ")
    assert len(plane.pool.uploads.waiting) == 1


async def test_uploads_to_an_upstream_that_cannot_be_reached() -> None:
    """If no connection can be opened, each upload gets 503, and none keeps a place."""
    plane = Plane(limits=LIMITS, pool_limits=FOUR)
    plane.connector.faults = [ConnectionRefusedError() for _ in range(3)]
    wires = [await upload(plane, caller) for caller in (1, 2, 3)]
    assert all(wire.take().startswith(b"HTTP/1.1 503 ") for wire in wires)
    assert idle(plane)


async def test_an_upload_takes_an_idle_connection() -> None:
    """A connection that is idle serves the next upload, as it serves other requests."""
    plane = Plane(limits=LIMITS)
    assert await served(plane)
    await upload(plane)
    assert len(plane.connector.wires) == 1
    assert plane.connector.wires[0].take().startswith(b"POST ")


# Slow uploads give way


SIXTEEN: Final = UpstreamPoolLimits(connections=16)


async def crowd(plane: Plane, callers: int, each: int = 10) -> list[list[MemoryTransport]]:
    """Start so many slow uploads from each of these addresses: they take all eight places."""
    wires = [[await upload(plane, caller + 1) for _ in range(each)] for caller in range(callers)]
    assert len(plane.pool.uploads.admitted) == 8
    return wires


async def test_many_addresses_leave_room_for_another(crank: Crank) -> None:
    """Slow uploads of addresses that hold several give way to one of an address that has none."""
    plane = Plane(limits=LIMITS, pool_limits=SIXTEEN)
    wires = await crowd(plane, callers=5)
    held = [sum(not each.is_closing() and each.reading for each in some) for some in wires]
    assert held == [4, 2, 1, 1, 0]
    other = await upload(plane, 100)
    assert not other.reading
    crank.turn(plane, 0.5)
    assert not other.reading  # they have begun only now
    crank.turn(plane, 1.5)
    await rest()
    assert other.reading
    losers = [[each.take() for each in some if each.written] for some in wires]
    assert [len(some) for some in losers] == [2, 0, 0, 0, 0]
    for answer in losers[0]:
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 1\r\n" in answer
    assert sum(each.aborted for each in plane.connector.wires) == 2
    assert plane.context.metrics.clients_refused["unfinished"] == 2
    other.feed(b"x" * (9 * BUFFER))
    plane.connector.wires[-1].feed(OK)
    assert other.take().endswith(b"ok")


async def test_slow_uploads_give_way_at_once(crank: Crank) -> None:
    """If they are slow when an upload arrives, it does not wait for the next sweep."""
    plane = Plane(limits=LIMITS, pool_limits=SIXTEEN)
    await crowd(plane, callers=4)
    crank.now += 2.0
    other = await upload(plane, 100)
    assert other.reading


@pytest.mark.parametrize(
    ("octets", "every", "cut"),
    [
        pytest.param(1, 0.5, True, id="an-octet-now-and-then"),
        pytest.param(64 * 1024, 0.5, False, id="fast"),
        pytest.param(64 * 1024, 0.9, False, id="with-pauses"),
        pytest.param(48 * 1024, 0.9, True, id="slower"),
    ],
)
async def test_fast_uploads_stay(crank: Crank, octets: int, every: float, *, cut: bool) -> None:
    """An upload that sends 64 KiB a second is not cut, however many its address has."""
    plane = Plane(limits=LIMITS, pool_limits=FOUR)
    wires = [plane.connect(address=address(1)) for _ in range(2)]
    for wire in wires:
        plane.pool.uploads.limit = 2 * (1 + wires.index(wire))
        wire.feed(post(10**9))
        wire.feed(b"x" * BUFFER)
        await rest()
    plane.pool.uploads.limit = 2
    assert len(plane.pool.uploads.admitted) == 2
    other = await upload(plane, 2)
    for _ in range(int(4 / every)):
        for wire in wires:
            if wire.is_reading():
                wire.feed(b"x" * octets)
        crank.turn(plane, every)
    await rest()
    assert any(wire.written for wire in wires) == cut
    assert other.reading == cut


async def test_uploads_that_the_application_does_not_read_stay(crank: Crank) -> None:
    """Neither a client that the sidecar does not read, nor one that waits for 100, is slow."""
    plane = Plane(limits=LIMITS, pool_limits=FOUR)
    plane.pool.uploads.limit = 4
    full, expecting = await upload(plane, 1), plane.connect(address=address(1))
    plane.connector.wires[0].get_protocol().pause_writing()
    expecting.feed(post(10 * BUFFER, "Expect: 100-continue"))
    await rest()
    plane.pool.uploads.limit = 2
    other = await upload(plane, 2)
    crank.turn(plane, 4.0)
    assert not other.reading
    plane.connector.wires[1].feed(CONTINUE)
    assert expecting.take() == CONTINUE
    crank.turn(plane, 0.5)
    assert not expecting.written
    plane.connector.wires[0].get_protocol().resume_writing()
    other = await upload(plane, 3)
    crank.turn(plane, 2.0)
    await rest()
    assert [wire.take()[:12] for wire in (full, expecting)].count(b"HTTP/1.1 503") == 1


async def test_one_upload_of_an_address_is_never_cut(crank: Crank) -> None:
    """An address with a single upload keeps it, however slow it is and however many wait."""
    plane = Plane(limits=LIMITS, pool_limits=SIXTEEN)
    wires = [await upload(plane, caller) for caller in range(1, 9)]
    waiting = [await upload(plane, caller) for caller in range(100, 110)]
    crank.turn(plane, 4.0)
    assert not any(wire.written for wire in wires)
    assert not any(wire.reading for wire in waiting)


async def test_a_slow_upload_with_an_answer_is_broken_off(crank: Crank) -> None:
    """If its answer has begun, its client must not take that for the whole."""
    plane = Plane(limits=LIMITS, pool_limits=FOUR)
    plane.pool.uploads.limit = 4
    wires = [await upload(plane, 1), await upload(plane, 1)]
    for each in plane.connector.wires:
        each.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    plane.pool.uploads.limit = 2
    crank.turn(plane, 2.0)
    await upload(plane, 2)
    assert sum(wire.aborted for wire in wires) == 1
    assert all(wire.take().endswith(b"half") for wire in wires)


# What is buffered of all bodies


async def test_many_addresses_do_not_fill_the_buffer() -> None:
    """However many addresses fill the buffer, a body of another one finds room in it."""
    rules = (RouteRule(path="/private"), RouteRule(path="/*", access=Access.PUBLIC))
    plane = Plane(rules, limits=LIMITS, pool_limits=FOUR)
    store = SlowStore(time)
    store.use_in(plane)
    plane.context.staged = HeldOctets(32 * BUFFER)
    token = await log_in(plane)
    for number in range(200):
        await upload(plane, 1 + number % 20, BUFFER - 100)
    assert plane.context.staged.total > 30 * BUFFER
    wire = plane.connect(address=address(100))
    head = post(BUFFER, f"Authorization: Bearer {token}").replace(b"POST /", b"POST /private")
    wire.feed(head + b"x" * BUFFER)
    await rest()
    store.released.set()
    await rest()
    assert not wire.written
    assert any(each.endswith(b"x" * BUFFER) for each in (w.take() for w in plane.connector.wires))


@pytest.mark.parametrize("waits_for", ["session", "rest", "connection"])
async def test_a_body_that_gives_way_leaves_nothing(waits_for: str) -> None:
    """Whatever a body waits for: when it gives way, its client gets 503, and nothing is left."""
    private = waits_for == "session"
    rules = (RouteRule(path="/*", access=Access.REQUIRED if private else Access.PUBLIC),)
    plane = Plane(rules, limits=LIMITS, pool_limits=UpstreamPoolLimits(connections=1))
    store = SlowStore(time)
    store.use_in(plane)
    plane.context.staged = HeldOctets(1000)
    lines = [f"Authorization: Bearer {await log_in(plane)}"] if private else []
    if waits_for == "connection":
        plane.connect().feed(GET)
        await rest()
    size = 600 if waits_for == "connection" else 10 * BUFFER
    wire = plane.connect(address=address(1))
    wire.feed(post(size, *lines) + b"x" * 600)
    await rest()
    assert plane.context.staged.total == 600
    other = plane.connect(address=address(2))
    other.feed(post(10 * BUFFER if waits_for != "connection" else 450, *lines) + b"x" * 450)
    await rest()
    answer = wire.take()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1\r\n" in answer
    assert plane.context.staged.total == 450
    store.released.set()
    other.lose(None)
    await rest()
    for each in plane.connector.wires:
        each.feed(OK)
    assert idle(plane)
    assert not wire.written


async def test_one_address_does_not_fill_the_buffer() -> None:
    """An address that has filled it waits for connections, and its oldest body gives way."""
    plane = Plane(limits=LIMITS, pool_limits=FOUR)
    plane.context.staged = HeldOctets(1800)
    waiting = [await upload(plane, 1, 400) for _ in range(4)]
    await upload(plane, 1, 400)  # it finds no room, and is sent
    assert len(plane.connector.wires) == 1
    refused = await upload(plane, 1, 400)  # and this one finds no place there either
    other = await upload(plane, 2, 400)
    for wire in (refused, waiting[0]):
        answer = wire.take()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 1\r\n" in answer
    assert not any(wire.written for wire in waiting[1:])
    assert plane.context.metrics.clients_refused["unfinished"] == 1
    assert plane.context.staged.total == 1600
    other.feed(b"x" * (10 * BUFFER - 400))
    await rest()
    assert plane.connector.wires[1].take().endswith(b"x")


async def test_a_complete_body_that_waits_is_counted() -> None:
    """Bodies that wait for a connection take their room in the buffer, or are refused."""
    plane = Plane(pool_limits=UpstreamPoolLimits(connections=1))
    plane.context.staged = HeldOctets(1000)
    busy = plane.connect()
    busy.feed(GET)
    await rest()
    waiting, refused = plane.connect(), plane.connect()
    for wire in (waiting, refused):
        wire.feed(post(600) + b"x" * 600)
    assert plane.context.staged.total == 600
    assert refused.take().startswith(b"HTTP/1.1 503 ")
    (upstream,) = plane.connector.wires
    upstream.take()
    upstream.feed(OK)
    assert upstream.take().endswith(b"x" * 600)
    assert plane.context.staged.total == 0


async def test_a_body_that_waits_for_its_session_is_counted() -> None:
    """While a session is looked up its body takes room in the buffer; without any it gets 503."""
    plane = Plane((RouteRule(path="/*"),), limits=LIMITS)
    token = jwt.encode(
        {"iss": "t", "sub": "alice", "sid": "s9", "iat": int(time()), "exp": int(time()) + 900},
        SECRET,
        algorithm="HS256",
        headers={"typ": "at+jwt"},
    )
    wires = []
    plane.context.staged = HeldOctets(1000)
    for _ in range(2):
        wire = plane.connect()
        wire.feed(post(BUFFER, f"Authorization: Bearer {token}") + b"x" * 600)
        wires.append(wire)
    assert plane.context.staged.total == 600
    assert wires[1].take().startswith(b"HTTP/1.1 503 ")
    await rest()
    assert wires[0].take().startswith(b"HTTP/1.1 401 ")
    assert idle(plane)


async def test_a_body_goes_on_after_its_session_was_looked_up() -> None:
    """Reading stops for the look-up and resumes after it, until the body is complete."""
    plane = Plane((RouteRule(path="/*"),), limits=LIMITS)
    store = SlowStore(time)
    store.use_in(plane)
    token = await log_in(plane)
    wire = plane.connect()
    wire.feed(post(BUFFER, f"Authorization: Bearer {token}") + b"x")
    await rest()
    assert not wire.reading
    store.released.set()
    await rest()
    assert wire.reading
    wire.feed(b"x" * (BUFFER - 1))
    await rest()
    assert plane.connector.wires[0].take().endswith(b"x" * BUFFER)


# Answers that are not read


async def reading(plane: Plane, crank: Crank, callers: list[int]) -> list[MemoryTransport]:
    """Have a client of each of these addresses leave a large answer unread, one after another."""
    wires = []
    for caller in callers:
        crank.now += 0.01
        wire = plane.connect(hold=True, address=address(caller))
        wire.feed(GET)
        await rest()
        begun = b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 300_000
        plane.connector.wires[-1].feed(begun)
        wires.append(wire)
    return wires


async def test_unread_answers_give_way(crank: Crank) -> None:
    """When requests wait, unread answers are broken off, down to half of the pool."""
    plane = Plane(pool_limits=FOUR)
    slow = await reading(plane, crank, [1, 2, 2, 2])
    wires = [plane.connect(address=address(9)) for _ in range(3)]
    for wire in wires:
        wire.feed(GET)
    crank.turn(plane, UNREAD - 0.5)
    assert not any(wire.aborted for wire in slow)
    crank.turn(plane, 1.0)
    await rest()
    assert [wire.aborted for wire in slow] == [False, True, True, False]
    assert [wire.aborted for wire in plane.connector.wires[:4]] == [False, True, True, False]
    for each in plane.connector.wires[4:]:
        each.feed(OK)
    plane.connector.wires[4].feed(OK)
    assert all(wire.take().endswith(b"ok") for wire in wires)


async def test_unread_answers_stay_while_nobody_waits(crank: Crank) -> None:
    """Slow readers keep the whole pool as long as no request needs it."""
    plane = Plane(pool_limits=FOUR)
    slow = await reading(plane, crank, [1, 1, 1, 1])
    crank.turn(plane, 10.0)
    assert not any(wire.aborted for wire in slow)


async def test_answers_that_are_read_stay(crank: Crank) -> None:
    """Answers that their clients read again are not broken off for requests that wait."""
    plane = Plane(pool_limits=FOUR)
    slow = await reading(plane, crank, [1, 1, 1, 1])
    crank.turn(plane, 10.0)
    for wire in slow[1:]:
        wire.drain()
    plane.connect(address=address(9)).feed(GET)
    crank.turn(plane, 2.0)
    assert not any(wire.aborted for wire in slow)


@pytest.mark.parametrize("others", [True, False])
async def test_a_slow_reader_gains_nothing_for_itself(crank: Crank, *, others: bool) -> None:
    """A caller's unread answers do not give way to its own requests, unless it is alone."""
    plane = Plane(pool_limits=FOUR)
    slow = await reading(plane, crank, [1, 1, 1, 2 if others else 1])
    plane.connect(address=address(1)).feed(GET)
    crank.turn(plane, 3.0)
    assert sum(wire.aborted for wire in slow) == (0 if others else 1)


async def test_unread_answers_give_way_at_once(crank: Crank) -> None:
    """A request that finds the pool full of unread answers gets a connection without waiting."""
    plane = Plane(pool_limits=FOUR)
    await reading(plane, crank, [1, 1, 1, 1])
    crank.turn(plane, 2.0)
    assert await served(plane)
    assert plane.context.metrics.connections["upstream"] == 4


# The queue for connections


async def test_callers_take_turns() -> None:
    """A request waits behind one of another caller's requests at most, however many these are."""
    plane = Plane(pool_limits=UpstreamPoolLimits(connections=1, waiting=3))
    many = [plane.connect(address=address(1)) for _ in range(5)]
    for wire in many:
        wire.feed(GET)
    await rest()
    assert many[4].take().startswith(b"HTTP/1.1 503 ")  # one is served, three wait
    other = plane.connect(address=address(2))
    other.feed(GET)
    assert many[3].take().startswith(b"HTTP/1.1 503 ")  # it has given way
    (upstream,) = plane.connector.wires
    for wire in (many[0], many[1], other, many[2]):
        upstream.feed(OK)
        assert wire.take().endswith(b"ok")


# Who is counted


@pytest.mark.parametrize(
    ("peer", "trusted", "named", "caller"),
    [
        pytest.param("192.0.2.1", False, b"198.51.100.7", "192.0.2.1", id="untrusted"),
        pytest.param("192.0.2.1", True, b"", "192.0.2.1", id="names-none"),
        pytest.param("192.0.2.1", True, b"198.51.100.7", "198.51.100.7", id="named"),
        pytest.param("192.0.2.1", True, b"1.2.3.4, 198.51.100.7", "198.51.100.7", id="appended"),
        pytest.param("192.0.2.1", True, b"198.51.100.7:4711", "198.51.100.7", id="port"),
        pytest.param("192.0.2.1", True, b"[2001:db8::9]:47", "2001:db8::/64", id="port-of-ipv6"),
        pytest.param("192.0.2.1", True, b"unknown", "192.0.2.1", id="no-address"),
        pytest.param(
            "192.0.2.1", True, b"198.51.100.7, 10.1.2.3", "198.51.100.7", id="two-proxies"
        ),
        pytest.param("192.0.2.1", True, b'"quoted"', "192.0.2.1", id="nonsense"),
        pytest.param("2001:db8::1:2:3:4", False, b"", "2001:db8:0:0::/64", id="ipv6"),
        pytest.param("::ffff:192.0.2.1", False, b"", "192.0.2.1", id="mapped"),
        pytest.param("fe80::1:2:3:z", False, b"", "fe80::1:2:3:z", id="unreadable"),
        pytest.param("", False, b"", "unknown", id="unix-socket"),
    ],
)
def test_callers(peer: str, *, trusted: bool, named: bytes, caller: str) -> None:
    """A caller is the peer, or the client that a trusted proxy names, by network for IPv6."""
    head = RequestHead()
    head.forwarded = {b"x-forwarded-for": named}
    clients = NamedClients([ip_network("10.0.0.0/8")])
    found = Forwarding(peer, "http", trusted=trusted, clients=clients).caller(head)
    assert found == caller.replace("0:0::", ":")


@pytest.mark.parametrize(("trusts", "sent"), [(True, 2), (False, 1)])
async def test_the_clients_of_a_proxy(*, trusts: bool, sent: int) -> None:
    """Each client that a trusted proxy names has its own share; those of another proxy have one."""
    trusted = [ip_network("192.0.2.0/24")] if trusts else []
    plane = Plane(limits=LIMITS, pool_limits=FOUR, trusted=trusted)
    for client in range(2):
        wire = plane.connect()
        wire.feed(post(5 * BUFFER, f"X-Forwarded-For: 198.51.100.{client}") + b"x" * BUFFER)
        await rest()
    assert len(plane.connector.wires) == sent
