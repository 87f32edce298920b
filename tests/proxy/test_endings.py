"""What remains on both sides after an exchange ends and after the sidecar stops.

Released connections are read again and slots become free. Nothing remains of a client that has left
or that does not read its answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.peers.patience import until
from tests.peers.raw_client import RawClient, build
from tests.peers.scripted_upstream import EARLY, OK, STALL, WATCH, reply
from tests.peers.stack import PUBLIC, stack
from tests.proxy.handshake import ASK, SWITCH
from tests.proxy.stalling import (
    PIECE,
    SETTLE,
    all_gone,
    at_rest,
    ended,
    fill,
    listener_of,
    sweep,
    thin_client,
)

if TYPE_CHECKING:
    from tests.peers.scripted_upstream import Received, Script, ScriptedUpstream
    from tests.peers.stack import Stack

UPSTREAM_IDLE: Final = 60.0  # seconds for which an idle upstream connection is kept


def numbered(request: Received) -> Script:
    """Answer with the request's target and one piece of data."""
    return [reply(request.target + PIECE)]


async def test_connection_of_a_client_that_is_full_serves_others(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """An upstream connection released while its client was not reading serves other clients."""
    upstream.scripts = numbered
    async with thin_client(proxy) as client:
        await fill(client, upstream)
        assert (await proxy.get("/other")).body == b"/other" + PIECE
        assert len(upstream.connections) == 1


async def test_full_client_is_served_no_further(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """While a client does not read, its next request waits; no answer is lost or reordered."""
    upstream.scripts = numbered
    async with thin_client(proxy) as client:
        served = await fill(client, upstream)
        assert served * len(PIECE) < 1_000_000
        for number in range(served + 1):
            assert (await client.response()).body == b"/%d" % number + PIECE


@pytest.mark.parametrize("when", ["at-once", "late"])
async def test_end_of_a_client_behind_its_requests(
    upstream: ScriptedUpstream, proxy: Stack, when: str
) -> None:
    """All requests before a half-close are answered, however late the client reads the answers."""
    upstream.scripts = numbered
    count = 30
    async with thin_client(proxy) as client:
        await client.send(b"".join(build("GET", f"/{number}") for number in range(count)))
        if when == "at-once":
            client.end()
        assert await at_rest(lambda: len(upstream.requests)) < count
        if when == "late":
            client.end()
            await asyncio.sleep(SETTLE)
        for number in range(count):
            assert (await client.response()).body == b"/%d" % number + PIECE
        assert await client.ended() == "eof"
    await until(lambda: not proxy.sidecar.metrics.connections["downstream"])


async def test_one_connection_too_many(upstream: ScriptedUpstream) -> None:
    """A connection over the limit gets 503; the others are served, and a freed place is reused."""
    settings: dict[str, Any] = {"max_connections": 3}
    async with contextlib.AsyncExitStack() as open_:
        proxy = await open_.enter_async_context(stack(upstream.url, routes=PUBLIC, **settings))
        clients = [await open_.enter_async_context(proxy.client()) for _ in range(3)]
        for client in clients:
            assert (await client.ask(build("GET", "/"))).status == 200
        async with proxy.client() as fourth:
            answer = await fourth.response()
            assert answer.status == 503
            assert int(answer.fields.one("retry-after")) > 0
            assert answer.closes
            assert await fourth.rest() == b""
        for client in clients:
            assert (await client.ask(build("GET", "/"))).status == 200
        clients[0].close()
        await until(lambda: proxy.sidecar.metrics.connections["downstream"] == 2)
        assert (await proxy.get("/")).status == 200


async def test_tunnels_take_no_slots_from_requests(upstream: ScriptedUpstream) -> None:
    """Tunnels do not count against the limit on upstream connections."""
    upstream.scripts = lambda request: [SWITCH, WATCH] if request.target == b"/ws" else [OK]
    settings: dict[str, Any] = {"upstream_max_connections": 2}
    async with stack(upstream.url, routes=PUBLIC, **settings) as proxy:
        metrics = proxy.sidecar.metrics
        async with contextlib.AsyncExitStack() as open_:
            for _ in range(20):
                client = await open_.enter_async_context(proxy.client())
                assert (await client.ask(build("GET", "/ws", *ASK))).status == 101
            assert (await proxy.ask(build("POST", "/", body=b"x"))).status == 200
            assert metrics.connections["upstream"] == 21
        await until(lambda: metrics.connections == {"downstream": 0, "upstream": 1})


async def test_client_that_ended_before_the_switch(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """No tunnel is opened for a client that ended before the 101: both connections are closed."""
    upstream.scripts = [[STALL, SWITCH, WATCH]]
    async with proxy.client() as client:
        await client.send(build("GET", "/ws", *ASK))
        client.end()
        await upstream.arrived()
        await client.silence()
        upstream.release.set()
        await ended(upstream)
        await client.ended()
    await all_gone(proxy)


async def test_idle_connection_that_is_closing_is_not_taken(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """A POST that arrives while an idle upstream connection is closing uses a new connection."""
    async with proxy.client() as client:
        assert (await client.ask(build("POST", "/", body=b"x"))).status == 200
        # All within one iteration of the event loop: the request is written, the idle connection is
        # dropped, and the request is read before the end of the connection has been noticed.
        client.writer.write(build("POST", "/next", body=b"y"))
        sweep(proxy, monotonic() + UPSTREAM_IDLE + 1)
        assert (await client.response("POST")).status == 200
    assert [seen.connection for seen in upstream.requests] == [0, 1]


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_stopping_during_an_answer(upstream: ScriptedUpstream, framing: str) -> None:
    """An answer begun before the stop completes; then its connection and the sidecar end."""
    first, last = {
        "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf", b"rest"),
        "chunked": (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            b"4\r\nrest\r\n0\r\n\r\n",
        ),
    }[framing]
    upstream.scripts = [[first, STALL, last]]
    async with stack(upstream.url, routes=PUBLIC) as proxy, proxy.client() as client:
        await client.send(build("GET", "/"))
        assert not (await client.head()).closes
        await client.until(first[-4:])
        stopping = asyncio.create_task(proxy.sidecar.stop())
        await client.silence()
        upstream.release.set()
        assert await client.rest() == last
        async with asyncio.timeout(2):  # well below the ten that requests in flight are given
            await stopping


@pytest.mark.parametrize("why", ["stopping", "idle-limit"])
async def test_request_that_has_come_but_is_not_read_yet(proxy: Stack, why: str) -> None:
    """A request that the kernel has received is answered before its idle connection is closed."""
    sock = socket.create_connection(("127.0.0.1", proxy.port))
    sock.setblocking(False)
    client = RawClient(*await asyncio.open_connection(sock=sock))
    try:
        assert not (await client.ask(build("GET", "/"))).closes
        connection: Any
        (connection,) = listener_of(proxy)._connections.open  # noqa: SLF001 (closed at will below)
        sock.send(build("GET", "/"))
        if why == "stopping":
            listener_of(proxy).announce()
            connection.go_away(monotonic())
        else:
            connection.on_deadline()
        answer = await client.response()
        assert (answer.status, answer.closes) == (200, why == "stopping")
    finally:
        client.writer.transport.abort()


async def test_early_answer_to_a_client_that_has_left(
    upstream: ScriptedUpstream, streaming: Stack
) -> None:
    """A client that leaves in the middle of its upload and its answer leaves nothing behind."""
    upstream.scripts = [[EARLY, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", WATCH]]
    async with streaming.client() as client:
        await client.send(build("POST", "/", "Content-Length: 1000") + b"some")
        await client.until(b"half")
        client.end()
        await ended(upstream)
        assert await client.ended() == "reset"
    await all_gone(streaming)


async def test_end_of_a_client_within_its_body(
    upstream: ScriptedUpstream, streaming: Stack
) -> None:
    """A half-close within a body counts as 499, and the upstream sees an incomplete request."""
    async with streaming.client() as client:
        await client.send(build("POST", "/", "Content-Length: 10") + b"half")
        await upstream.arrived()
        client.end()
        assert await client.ended() == "reset"
    await until(lambda: not streaming.sidecar.metrics.connections["downstream"])
    codes = streaming.sidecar.metrics.routes["all"].codes
    assert dict(codes) == {499: 1}
    assert streaming.sidecar.metrics.in_flight == 0
    await until(lambda: upstream.connections[0].ended_how is not None)
