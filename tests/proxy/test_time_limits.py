"""No wait is endless: clients that read nothing, send nothing, or are half-closed are cut off.

No test waits for a limit: the sidecar checks its deadlines as if the time had passed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from time import monotonic, time
from typing import TYPE_CHECKING, Final

import pytest

from sidecar.auth.route_rule import RouteRule
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
from tests.proxy.memory_plane import OK, Plane, rest
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
from tests.proxy.test_hot_path import log_in
from tests.proxy.test_uploads import SlowStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.peers.raw_client import RawClient
    from tests.peers.scripted_upstream import Connection, Received
    from tests.peers.stack import Stack

LIMITS: Final = Limits()  # a sidecar's limits with default settings; seconds
CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
# More than the kernel buffers for a thin client, and less than the sidecar buffers before it pauses
# reading.
BETWEEN: Final = b"b" * 250_000


# Clients that do not read


@pytest.mark.parametrize("framing", ["length", "chunked", "until-close"])
async def test_client_that_takes_nothing_of_a_stream(
    upstream: ScriptedUpstream, proxy: Stack, framing: str
) -> None:
    """A client that reads nothing is reset after the limit, and its upstream connection closed."""
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
    """The limit also applies when all answers are complete and a request waits behind them."""
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
    """A connection being closed with unread data is cut off after the limit."""
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
        assert metrics.connections["downstream"] == 1  # or the kernel has buffered everything
        strike(proxy, LIMITS.send_timeout)
        await until(lambda: not metrics.connections["downstream"])
        with pytest.raises(StreamEndedError):
            await client.exactly(len(BETWEEN))


async def test_client_that_takes_nothing_of_a_tunnel(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """Both ends of a tunnel are closed when the client has read nothing for the limit."""
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
    """A tunnel whose upstream does not read."""
    async with (
        ScriptedUpstream([[SWITCH, STALL]], read_ahead=4096, receive_buffer=4096) as upstream,
        stack(upstream.url, routes=PUBLIC) as proxy,
        proxy.client() as client,
    ):
        await client.send(build("GET", "/", *ASK))
        assert (await client.response()).status == 101
        yield proxy, client


async def test_upstream_that_takes_nothing_of_a_tunnel() -> None:
    """Both ends of a tunnel are closed when the upstream has read nothing for the limit."""
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
    """During a stop, a tunnel's upstream end that reads nothing is cut off as well."""
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
    """Unread data from an upstream that has ended does not keep the client's end open for ever."""
    upstream.scripts = [[SWITCH, BETWEEN, CLOSE]]
    metrics = proxy.sidecar.metrics
    async with thin_client(proxy) as client:
        await client.send(build("GET", "/", *ASK))
        await upstream.arrived()
        await until(lambda: not metrics.connections["upstream"])
        await asyncio.sleep(SETTLE)
        assert metrics.connections["downstream"] == 1  # or the kernel has buffered everything
        strike(proxy, LIMITS.send_timeout)
        await all_gone(proxy)
        with pytest.raises(StreamEndedError):
            await client.exactly(len(SWITCH + BETWEEN))


async def test_client_that_takes_nothing_but_sends(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """A client that reads nothing is cut off even while the upstream reads what it sends."""
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
    """A slow client's reads count even while they only empty the kernel's buffer.

    That buffer holds megabytes, and the kernel reports it writable only when a third of it is free.
    """
    flood = Flood(b"p" * 100_000)
    upstream.scripts = [[b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n", flood.answer]]
    listener = unswept(proxy)
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)  # frees space early
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
        assert flood.sent == sent  # only the kernel's buffer has changed
        assert proxy.sidecar.metrics.in_flight == 1
        listener.sweep(now + LIMITS.send_timeout + 1)
        await ended(upstream)
    await all_gone(proxy)


# Half-closed clients


async def test_silent_stream_to_a_client_that_has_ended(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """A client that half-closed before the answer's head is cut off if the stream stays silent."""
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
    """A client that half-closes during a stream is cut off if the stream stays silent."""
    upstream.scripts = [[CHUNKED, b"1\r\na\r\n", WATCH]]
    async with proxy.client() as client:
        await client.send(build("GET", "/events"))
        await client.until(b"a\r\n")
        sweep(proxy, monotonic() + 1_000_000)  # for an open client, a stream may stay silent
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
    """Each event that can be sent to a half-closed client restarts its time limit."""
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
    """While a half-closed client itself delays the answer, the ordinary send limit applies."""
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


async def test_a_head_that_came_just_in_time() -> None:
    """The time limit of a head does not end the look-up of its session, which takes longer."""
    plane = Plane((RouteRule(path="/*"),), limits=LIMITS)
    store = SlowStore(time)
    store.use_in(plane)
    token = await log_in(plane)
    wire = plane.connect()
    wire.feed(build("GET", "/", token=token))
    await rest()
    plane.listener.sweep(monotonic() + LIMITS.header_timeout)
    assert wire.take() == b""
    store.released.set()
    await rest()
    plane.connector.wires[0].feed(OK)
    assert wire.take().startswith(b"HTTP/1.1 200 ")
