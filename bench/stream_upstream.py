"""A streaming application: bodies of any size, a WebSocket echo, server-sent events.

Run as `python -m bench.stream_upstream PORT` behind the sidecar. Must not buffer a whole body.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time

from aiohttp import WSMsgType, web

CHUNK = b"x" * (256 << 10)
EVENTS = 20
EVENT_PAUSE = 0.05
STALL_SECONDS = 1.0


async def download(request: web.Request) -> web.StreamResponse:
    """Send as many bytes as the path says, with a length, or chunked if the query requests it."""
    left = int(request.match_info["size"])
    response = web.StreamResponse()
    if "chunked" in request.query:
        response.enable_chunked_encoding()
    else:
        response.content_length = left
    await response.prepare(request)
    while left:
        chunk = CHUNK[:left]
        await response.write(chunk)
        left -= len(chunk)
    await response.write_eof()
    return response


async def sink(request: web.Request) -> web.Response:
    """Read the body after a pause in which all buffers fill up; respond with its length."""
    await asyncio.sleep(STALL_SECONDS)
    total = 0
    async for chunk in request.content.iter_any():
        total += len(chunk)
    return web.Response(text=str(total))


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Send every message back."""
    socket = web.WebSocketResponse(max_msg_size=0)
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


async def events(request: web.Request) -> web.StreamResponse:
    """Send events over one second, each with the monotonic clock at the time of sending."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    with contextlib.suppress(ConnectionResetError):  # the client may disconnect early
        for _ in range(EVENTS):
            await response.write(b"data: %d\n\n" % time.monotonic_ns())
            await asyncio.sleep(EVENT_PAUSE)
    return response


async def cut(request: web.Request) -> web.StreamResponse:
    """Send half of a response and abort; chunked if the query requests it."""
    response = web.StreamResponse()
    if "chunked" not in request.query:
        response.content_length = 2 * len(CHUNK)
    await response.prepare(request)
    await response.write(CHUNK)
    if request.transport is not None:
        request.transport.abort()
    return response


def build() -> web.Application:
    """Make the application."""
    app = web.Application()
    app.router.add_get("/download/{size}", download)
    app.router.add_post("/sink", sink)
    app.router.add_get("/echo", echo)
    app.router.add_get("/events", events)
    app.router.add_get("/cut", cut)
    return app


if __name__ == "__main__":
    web.run_app(build(), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
