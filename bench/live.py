"""Live connections: WebSocket round trips, and the delay of server-sent events.

Owns the client side, with aiohttp's client. Must not know which proxy is in between.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

import aiohttp

from bench.outcome import Outcome, control, p99

SMALL_MESSAGES, BIG_MESSAGES = 500, 20
BIG = b"\x00\xff" * (128 << 10)
STREAMS = 10
FIRST_EVENT_LIMIT = 0.050


@dataclass(frozen=True, slots=True)
class Live:
    """Seconds: round trip of each echo, delay of each first event, and of each later event."""

    echoes: list[float]
    first_events: list[float]
    event_delays: list[float]


class LiveError(Exception):
    """An echo was changed, or a stream did not start."""


def judge(seen: Live, plain: Live) -> list[Outcome]:
    """Compare with the bars; `plain` was measured without a proxy."""
    echo = f"p50 {median(seen.echoes) * 1e3:.2f} ms, p99 {p99(seen.echoes) * 1e3:.2f} ms"
    first, later = max(seen.first_events), p99(seen.event_delays)
    events = f"slowest {first * 1e3:.1f} ms; later events p99 {later * 1e3:.2f} ms"
    limit, least = FIRST_EVENT_LIMIT * 1e3, max(plain.first_events) * 1e3
    bare = control("without a proxy, the slowest", least, limit / 2, "ms")
    return [
        Outcome(f"WebSocket, {len(seen.echoes)} echoes", echo, "all equal", held=True),
        Outcome(
            "first server-sent event",
            events,
            f"under {limit:.0f} ms",
            first * 1e3 < limit,
            bare,
        ),
    ]


async def measure(port: int, token: str) -> Live:
    """Measure echoes and events. Raises LiveError."""
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
    """Measure small messages, in seconds per round trip; large ones are only compared."""
    times = []
    async with session.ws_connect("/echo", max_msg_size=0) as socket:
        for number in range(SMALL_MESSAGES):
            text = f"message {number}"
            started = time.perf_counter()
            await socket.send_str(text)
            if await socket.receive_str() != text:
                raise LiveError(f"echo {number} was changed")
            times.append(time.perf_counter() - started)
        for number in range(BIG_MESSAGES):
            await socket.send_bytes(BIG)
            if await socket.receive_bytes() != BIG:
                raise LiveError(f"large echo {number} was changed")
    return times


async def event_arrivals(session: aiohttp.ClientSession) -> tuple[float, list[float]]:
    """Seconds from the request to the first event, and from sending to receiving later ones."""
    started = time.monotonic_ns()
    first: float | None = None
    delays = []
    async with session.get("/events", headers={"Accept": "text/event-stream"}) as response:
        if response.status != 200:
            raise LiveError(f"the event stream got status {response.status}")
        async for line in response.content:
            if not line.startswith(b"data: "):
                continue
            now = time.monotonic_ns()
            if first is None:
                first = (now - started) / 1e9
            else:
                delays.append((now - int(line[6:])) / 1e9)
    if first is None:
        raise LiveError("the event stream ended without an event")
    return first, delays
