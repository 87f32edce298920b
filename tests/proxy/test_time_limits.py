"""Nobody waits for ever: clients that take nothing, send nothing, or have gone half away.

No test waits for a limit: the sidecar is asked what is late as if the time had passed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from time import monotonic
from typing import TYPE_CHECKING, Final

import pytest

from sidecar.proxy.context import Limits
from tests.peers.byte_stream import StreamEndedError
from tests.peers.http_text import chunked
from tests.peers.patience import PATIENCE, until
from tests.peers.raw_client import build
from tests.peers.scripted_upstream import (
    CLOSE,
    STALL,
    WATCH,
    ScriptedUpstream,
    reply,
)
from tests.peers.stack import PUBLIC, stack
from tests.proxy.handshake import ASK, SWITCH
from tests.proxy.stalling import (
    PIECE,
    SETTLE,
    Flood,
    all_gone,
    at_rest,
    ended,
    fill,
    listener_of,
    strike,
    sweep,
    thin_client,
    unswept,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.peers.raw_client import RawClient
    from tests.peers.scripted_upstream import Connection, Received
    from tests.peers.stack import Stack

LIMITS: Final = Limits()  # what a sidecar has unless its settings say otherwise; seconds
CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
# More than the kernel keeps for a thin client, and less than the sidecar keeps before it pauses.
BETWEEN: Final = b"b" * 250_000


# Clients that take nothing


@pytest.mark.parametrize("framing", ["length", "chunked", "until-close"])
async def test_client_that_takes_nothing_of_a_stream(
    upstream: ScriptedUpstream, proxy: Stack, framing: str
) -> None:
    """It is reset when it has taken nothing for long enough, and its upstream connection freed."""
    flood = Flood(chunked(PIECE).removesuffix(b"0\r\n\r\n") if framing == "chunked" else PIECE)
    head = {
        "length": b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n",
        "chunked": CHUNKED,
        "until-close": b"HTTP/1.1 200 OK\r\n\r\n",
    }[framing]
    upstream.scripts = [[head, flood.answer]]
    began = monotonic()
    async with thin_client(proxy) as client:
        await client.send(build("GET", "/"))
        await flood.is_stuck()
        sweep(proxy, began + LIMITS.send_timeout - 0.1)
        await asyncio.sleep(SETTLE)
        assert proxy.sidecar.metrics.in_flight == 1
        strike(proxy, LIMITS.send_timeout)
        await ended(upstream)
        assert await client.ended() == "reset"
    await all_gone(proxy)


async def test_client_that_takes_nothing_between_requests(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """The same when the answers are complete, and the next request waits for them to be taken."""
    upstream.scripts = [[reply(PIECE)]]
    began = monotonic()
    async with thin_client(proxy) as client:
        await fill(client, upstream)
        sweep(proxy, began + LIMITS.send_timeout - 0.1)
        assert proxy.sidecar.metrics.connections["downstream"] == 1
        strike(proxy, LIMITS.send_timeout)
        assert await client.ended() == "reset"
    await until(lambda: not proxy.sidecar.metrics.connections["downstream"])


@pytest.mark.parametrize("why", ["last-answer", "idle"])
async def test_client_that_takes_nothing_of_a_last_answer(
    upstream: ScriptedUpstream, why: str
) -> None:
    """A connection that is closed with something left to be taken does not stay for ever."""
    upstream.scripts = [[reply(BETWEEN)]]
    async with stack(upstream.url, routes=PUBLIC) as proxy, thin_client(proxy) as client:
        metrics = proxy.sidecar.metrics
        began = monotonic()
        await client.send(
            build("GET", "/", *(["Connection: close"] if why == "last-answer" else []))
        )
        await upstream.arrived()
        await until(lambda: not metrics.in_flight)
        if why == "idle":
            strike(proxy, LIMITS.idle_timeout)
        sweep(proxy, began + LIMITS.send_timeout - 0.1)
        await asyncio.sleep(SETTLE)
        assert metrics.connections["downstream"] == 1  # or the kernel has taken it all
        strike(proxy, LIMITS.send_timeout)
        await until(lambda: not metrics.connections["downstream"])
        with pytest.raises(StreamEndedError):
            await client.exactly(len(BETWEEN))


async def test_client_that_takes_nothing_of_a_tunnel(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """Both ends are let go when the client has taken nothing for long enough."""
    flood = Flood(PIECE)
    upstream.scripts = [[SWITCH, flood.answer]]
    began = monotonic()
    async with thin_client(proxy) as client:
        await client.send(build("GET", "/", *ASK))
        await flood.is_stuck()
        sweep(proxy, began + LIMITS.send_timeout - 0.1)
        await asyncio.sleep(SETTLE)
        assert proxy.sidecar.metrics.connections == {"downstream": 1, "upstream": 1}
        strike(proxy, LIMITS.send_timeout)
        await ended(upstream)
        await client.ended()
    await all_gone(proxy)


@contextlib.asynccontextmanager
async def tunnel_to_nowhere() -> AsyncIterator[tuple[Stack, RawClient]]:
    """A tunnel whose upstream takes nothing."""
    async with (
        ScriptedUpstream([[SWITCH, STALL]], read_ahead=4096, receive_buffer=4096) as upstream,
        stack(upstream.url, routes=PUBLIC) as proxy,
        proxy.client() as client,
    ):
        await client.send(build("GET", "/", *ASK))
        assert (await client.response()).status == 101
        yield proxy, client


async def test_upstream_that_takes_nothing_of_a_tunnel() -> None:
    """Both ends are let go when the upstream has taken nothing for long enough."""
    flood = Flood(PIECE)
    async with tunnel_to_nowhere() as (proxy, client):
        began = monotonic()
        flooding = asyncio.create_task(flood.run(client))
        await flood.is_stuck()
        sweep(proxy, began + LIMITS.send_timeout - 0.1)
        await asyncio.sleep(SETTLE)
        assert proxy.sidecar.metrics.connections == {"downstream": 1, "upstream": 1}
        strike(proxy, LIMITS.send_timeout)
        async with asyncio.timeout(PATIENCE):
            await flooding
        await all_gone(proxy)


async def test_upstream_that_takes_nothing_while_the_process_ends() -> None:
    """Its end is let go too when the client's was closed, which was not read any more."""
    async with tunnel_to_nowhere() as (proxy, client):
        flood = Flood(PIECE)
        flooding = asyncio.create_task(flood.run(client))
        await flood.is_stuck()
        stopping = asyncio.create_task(listener_of(proxy).stop(PATIENCE))
        await until(lambda: not proxy.sidecar.metrics.connections["downstream"])
        assert not stopping.done()
        strike(proxy, LIMITS.send_timeout)
        await stopping
        await flooding
        await all_gone(proxy)


async def test_client_that_takes_nothing_of_an_ended_tunnel(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """What an upstream said before it ended does not keep the client's end open for ever."""
    upstream.scripts = [[SWITCH, BETWEEN, CLOSE]]
    metrics = proxy.sidecar.metrics
    async with thin_client(proxy) as client:
        await client.send(build("GET", "/", *ASK))
        await upstream.arrived()
        await until(lambda: not metrics.connections["upstream"])
        await asyncio.sleep(SETTLE)
        assert metrics.connections["downstream"] == 1  # or the kernel has taken it all
        strike(proxy, LIMITS.send_timeout)
        await all_gone(proxy)
        with pytest.raises(StreamEndedError):
            await client.exactly(len(SWITCH + BETWEEN))


async def test_client_that_takes_nothing_but_sends(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """That the upstream takes what the client sends does not excuse the client from taking."""
    flood = Flood(PIECE)

    async def converse(connection: Connection, request: Received) -> None:
        flooding = asyncio.create_task(flood.run(connection))
        await upstream.release.wait()
        with contextlib.suppress(StreamEndedError):
            while True:
                await connection.some()
        await flooding

    upstream.scripts = [[SWITCH, converse]]
    async with thin_client(proxy) as client:
        await client.send(build("GET", "/", *ASK))
        await flood.is_stuck()
        sending = Flood(PIECE)
        task = asyncio.create_task(sending.run(client))
        await sending.is_stuck()
        task.cancel()
        upstream.release.set()
        await at_rest(lambda: upstream.connections[0].total)
        strike(proxy, LIMITS.send_timeout)
        await until(lambda: not any(proxy.sidecar.metrics.connections.values()), 1)


async def test_client_that_takes_what_the_kernel_kept(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """A slow client is seen to take something also while the kernel has no room for more.

    It keeps megabytes, and says that there is room only when a third of them is free.
    """
    flood = Flood(b"p" * 100_000)
    upstream.scripts = [[b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n", flood.answer]]
    listener = unswept(proxy)
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)  # it says soon what it took
        await loop.sock_connect(sock, ("127.0.0.1", proxy.port))
        await loop.sock_sendall(sock, build("GET", "/"))
        await flood.is_stuck()
        sent, now = flood.sent, monotonic()
        for _ in range(5):
            left = 200_000
            while left:
                left -= len(await loop.sock_recv(sock, left))
            await asyncio.sleep(SETTLE)
            listener.sweep(now)
            now += LIMITS.send_timeout - 0.5
        assert flood.sent == sent  # nothing has moved but in the kernel
        assert proxy.sidecar.metrics.in_flight == 1
        listener.sweep(now + LIMITS.send_timeout + 1)
        await ended(upstream)
    await all_gone(proxy)


# Clients that are half gone


async def test_silent_stream_to_a_client_that_has_ended(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """A client that ended before the answer's head, and may have gone, is not kept for silence."""
    upstream.scripts = [[STALL, CHUNKED, WATCH]]
    async with proxy.client() as client:
        await client.send(build("GET", "/events"))
        client.end()
        await upstream.arrived()
        await client.silence()
        before = monotonic()
        upstream.release.set()
        assert (await client.head()).status == 200
        sweep(proxy, before + LIMITS.half_closed - 0.1)
        await client.silence()
        strike(proxy, LIMITS.half_closed)
        await ended(upstream)
        assert await client.ended() == "reset"
    await all_gone(proxy)


async def test_silent_stream_after_its_client_has_ended(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """The same when the client ends in the middle of the stream."""
    upstream.scripts = [[CHUNKED, b"1\r\na\r\n", WATCH]]
    async with proxy.client() as client:
        await client.send(build("GET", "/events"))
        await client.until(b"a\r\n")
        sweep(proxy, monotonic() + 1_000_000)  # to a client that listens a stream may be silent
        before = monotonic()
        client.end()
        await client.silence()
        sweep(proxy, before + LIMITS.half_closed - 0.1)
        await client.silence()
        strike(proxy, LIMITS.half_closed)
        await ended(upstream)
        assert await client.ended() == "reset"
    await all_gone(proxy)


async def test_stream_that_goes_on_after_its_client_has_ended(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """Each event that can be sent to a client which has ended gives it as much time again."""
    upstream.scripts = [[CHUNKED, STALL, b"1\r\na\r\n", WATCH]]
    async with proxy.client() as client:
        await client.send(build("GET", "/events"))
        await client.head()
        client.end()
        await client.silence()
        without = monotonic() + LIMITS.half_closed
        await client.silence(SETTLE)
        upstream.release.set()
        await client.until(b"a\r\n")
        sweep(proxy, without)
        await client.silence()
        strike(proxy, LIMITS.half_closed)
        await ended(upstream)


async def test_slow_download_of_a_client_that_has_ended(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """While it is the client that holds up the answer, it has the time to take that others have."""
    flood = Flood(PIECE)
    upstream.scripts = [[b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n", flood.answer]]
    async with thin_client(proxy) as client:
        await client.send(build("GET", "/"))
        client.end()
        await flood.is_stuck()
        strike(proxy, LIMITS.half_closed)
        await asyncio.sleep(SETTLE)
        assert proxy.sidecar.metrics.in_flight == 1
        strike(proxy, LIMITS.send_timeout)
        await ended(upstream)
