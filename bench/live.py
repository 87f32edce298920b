"""Live connections: WebSocket round trips and how soon server-sent events arrive.

Owns the client side, with aiohttp's client. Must not know which proxy is between.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import aiohttp

SMALL_MESSAGES, BIG_MESSAGES = 500, 20
BIG = b"\x00\xff" * (128 << 10)
STREAMS = 10


@dataclass(frozen=True, slots=True)
class Live:
    """In seconds: each echo's round trip, each stream's first event, each later event's way."""

    echoes: list[float]
    first_events: list[float]
    event_delays: list[float]


class LiveError(Exception):
    """An echo came back changed, or a stream did not begin."""


async def measure(port: int, token: str) -> Live:
    """Run both; raises LiveError."""
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers) as session:
        echoes = await echo_round_trips(session)
        first_events, event_delays = [], []
        for _ in range(STREAMS):
            first, delays = await event_arrivals(session)
            first_events.append(first)
            event_delays += delays
    return Live(echoes, first_events, event_delays)


async def echo_round_trips(session: aiohttp.ClientSession) -> list[float]:
    """Seconds of each small message's round trip; large binary messages are only compared."""
    times = []
    async with session.ws_connect("/echo", max_msg_size=0) as socket:
        for number in range(SMALL_MESSAGES):
            text = f"message {number}"
            started = time.perf_counter()
            await socket.send_str(text)
            if await socket.receive_str() != text:
                raise LiveError(f"echo {number} came back changed")
            times.append(time.perf_counter() - started)
        for number in range(BIG_MESSAGES):
            await socket.send_bytes(BIG)
            if await socket.receive_bytes() != BIG:
                raise LiveError(f"large echo {number} came back changed")
    return times


async def event_arrivals(session: aiohttp.ClientSession) -> tuple[float, list[float]]:
    """Seconds from the request to the first event, and of each later one from sending it."""
    started = time.monotonic_ns()
    first: float | None = None
    delays = []
    async with session.get("/events", headers={"Accept": "text/event-stream"}) as response:
        if response.status != 200:
            raise LiveError(f"event stream was answered {response.status}")
        async for line in response.content:
            if not line.startswith(b"data: "):
                continue
            now = time.monotonic_ns()
            if first is None:
                first = (now - started) / 1e9
            else:
                delays.append((now - int(line[6:])) / 1e9)
    if first is None:
        raise LiveError("event stream ended without an event")
    return first, delays
