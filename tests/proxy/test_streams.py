"""WebSockets with real clients and servers, and event streams that are forwarded without delay."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest
import websockets
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from tests.peers.patience import PATIENCE, until
from tests.peers.raw_client import build
from tests.peers.stack import PUBLIC, Stack, stack
from tests.proxy.handshake import ASK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ENDED: Final = web.AppKey("ended", list[web.WebSocketResponse])
SENT: Final = web.AppKey("sent", list[float])
EVENTS: Final = web.AppKey("events", asyncio.Queue[int | None])
PROMPT: Final = 0.05  # seconds within which an event must reach the client


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Return every message; `close` makes the server close with code 4001."""
    ws = web.WebSocketResponse(max_msg_size=0, protocols=("chat",))
    await ws.prepare(request)
    await ws.send_str(request.headers["X-Auth-User"] + " " + request.path_qs)
    try:
        async for message in ws:
            if message.type is WSMsgType.TEXT and message.data == "close":
                await ws.close(code=4001, message=b"enough")
            elif message.type is WSMsgType.TEXT:
                await ws.send_str(message.data)
            else:
                await ws.send_bytes(message.data)
    finally:
        request.app[ENDED].append(ws)
    return ws


async def events(request: web.Request) -> web.StreamResponse:
    """Send an event for each entry of the queue and note the time; None ends the stream."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    while (event := await request.app[EVENTS].get()) is not None:
        request.app[SENT].append(time.perf_counter())
        await response.write(f"data: {event}\n\n".encode())
    return response


@pytest.fixture
async def application() -> AsyncIterator[TestServer]:
    """A real aiohttp application behind the sidecar."""
    app = web.Application()
    app[ENDED], app[SENT], app[EVENTS] = [], [], asyncio.Queue()
    app.router.add_get("/ws", echo)
    app.router.add_get("/events", events)
    server = TestServer(app)
    await server.start_server()
    yield server
    await server.close()


@pytest.fixture
async def running(application: TestServer) -> AsyncIterator[Stack]:
    """The sidecar in front of the application, open to everyone."""
    async with stack(str(application.make_url("")), routes=PUBLIC) as proxy:
        yield proxy


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A real HTTP client."""
    async with aiohttp.ClientSession() as session:
        yield session


async def test_echo_with_aiohttp(running: Stack, http: aiohttp.ClientSession) -> None:
    """Text and binary messages of all sizes pass unchanged, and so does the close code."""
    async with http.ws_connect(f"{running.url}/ws?a=b", max_msg_size=0, protocols=("chat",)) as ws:
        assert ws.protocol == "chat"
        assert await ws.receive_str() == " /ws?a=b"
        for size in (0, 1, 125, 126, 65535, 65536, 3_000_000):
            await ws.send_bytes(b"\x00\xff" * size)
            assert await ws.receive_bytes() == b"\x00\xff" * size
        await ws.send_str("grüße")
        assert await ws.receive_str() == "grüße"
        await ws.ping()
        await ws.send_str("close")
        assert (await ws.receive()).type is WSMsgType.CLOSE
        assert ws.close_code == 4001


async def test_echo_with_websockets(running: Stack) -> None:
    """Messages and the close code pass for another implementation that negotiates compression."""
    url = running.url.replace("http", "ws")
    async with websockets.connect(f"{url}/ws", max_size=None) as ws:
        assert await ws.recv() == " /ws"
        for message in ("x" * 100_000, b"y" * 2_000_000):
            await ws.send(message)
            assert await ws.recv() == message
        await (await ws.ping())
        await ws.send("close")
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await ws.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "enough")


async def test_client_close_reaches_the_application(
    application: TestServer, running: Stack, http: aiohttp.ClientSession
) -> None:
    """The client's close code reaches the application, and a client's reset ends its socket."""
    ended = _app(application)[ENDED]
    async with http.ws_connect(f"{running.url}/ws") as ws:
        await ws.receive_str()
        await ws.close(code=4002)
    await until(lambda: len(ended) == 1)
    assert ended[0].close_code == 4002
    async with running.client() as vanishing:
        await vanishing.send(build("GET", "/ws", *ASK))
        assert (await vanishing.response()).status == 101
        vanishing.reset()
    await until(lambda: len(ended) == 2)


async def test_socket_carries_the_identity(
    application: TestServer, http: aiohttp.ClientSession
) -> None:
    """A protected WebSocket handshake carries the identity; without a token it is denied."""
    async with stack(str(application.make_url(""))) as guarded:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(f"{guarded.url}/ws")
        assert refused.value.status == 401
        token = (await guarded.login()).access
        headers = {"Authorization": f"Bearer {token}"}
        async with http.ws_connect(f"{guarded.url}/ws", headers=headers) as ws:
            assert await ws.receive_str() == "alice /ws"


async def test_many_sockets_at_once(running: Stack, http: aiohttp.ClientSession) -> None:
    """Fifty concurrent WebSockets each keep their own conversation."""

    async def talk(number: int) -> None:
        async with http.ws_connect(f"{running.url}/ws?{number}") as ws:
            assert await ws.receive_str() == f" /ws?{number}"
            for turn in range(20):
                await ws.send_str(f"{number}-{turn}")
                assert await ws.receive_str() == f"{number}-{turn}"

    await asyncio.gather(*map(talk, range(50)))


async def test_events_arrive_as_they_are_sent(
    application: TestServer, running: Stack, http: aiohttp.ClientSession
) -> None:
    """Each event, including the first, reaches the client alone, and within 50 ms."""
    app, took = _app(application), []
    async with http.get(f"{running.url}/events") as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        for number in range(5):
            app[EVENTS].put_nowait(number)
            data = await response.content.readuntil(b"\n\n")
            took.append(time.perf_counter() - app[SENT][number])
            assert data == f"data: {number}\n\n".encode()
            await asyncio.sleep(0.005)
        app[EVENTS].put_nowait(None)
        assert await response.content.read() == b""
    assert min(took) < PROMPT  # other load on the machine does not disturb each of them


async def test_head_of_an_event_stream_is_not_held_back(
    running: Stack, http: aiohttp.ClientSession
) -> None:
    """The head of an event stream reaches the client before there is any event."""
    async with asyncio.timeout(PATIENCE), http.get(f"{running.url}/events") as response:
        assert response.status == 200


def _app(server: TestServer) -> web.Application:
    assert server.app is not None
    return server.app
