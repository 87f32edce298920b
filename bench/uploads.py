"""The check `uploads`: slow clients at few addresses must not disturb the requests of others.

Owns the slow clients, the load beside them and the count of failed requests. Every request counts:
a missing or unexpected response is a failure, and clients do not retry.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bench import report, sidecar
from bench.children import PATIENCE
from bench.outcome import Control, Finding, Outcome, p99
from bench.restarts import read_answer

if TYPE_CHECKING:
    from bench.lab import Lab
    from bench.sidecar import Started

SECONDS: Final = 10.0  # of load for each kind of slow client
OTHER: Final = "127.0.0.3"
ONE: Final = ("127.0.0.2",)
MANY: Final = tuple(f"127.0.1.{number}" for number in range(1, 41))
LEAD: Final = 3.0  # seconds for slow clients to hold what they can get, once all have begun
RECEIVE_BUFFER: Final = 16 * 1024  # of a slow client, so that the kernel keeps little for it
PAUSE: Final = 0.02  # seconds between a response and the next request on a connection
DRIP: Final = 600  # bytes that a slow client sends or reads in a second; above the minimum rates
HOST: Final = b" HTTP/1.1\r\nHost: bench\r\n"
UPLOAD: Final = b"POST /sink" + HOST + b"Content-Length: 100000000\r\n"


@dataclass(frozen=True, slots=True)
class SlowClient:
    """A kind of slow client: what it sends at once, and how it continues."""

    request: bytes
    sends: bool = True  # it sends `DRIP` bytes a second; otherwise it reads as many
    addresses: tuple[str, ...] = ONE  # of such clients, one after another
    number: int = 300  # of such clients


KINDS: Final = {
    "a body from its first byte on": SlowClient(UPLOAD + b"\r\n"),
    "a body after 64 KiB": SlowClient(UPLOAD + b"\r\n" + b"x" * 65536),
    "a body that expects 100": SlowClient(UPLOAD + b"Expect: 100-continue\r\n\r\n"),
    "a body after 64 KiB, 8 addresses": SlowClient(
        UPLOAD + b"\r\n" + b"x" * 65536, addresses=MANY[:8]
    ),
    "a body after 63 KiB, 40 addresses": SlowClient(
        UPLOAD + b"\r\n" + b"x" * 64512, addresses=MANY, number=640
    ),
    "a response": SlowClient(b"GET /download/100000000" + HOST + b"\r\n", sends=False),
}

# Who else uses the sidecar: the request, and the number of connections.
OTHERS: Final = {
    "probe": (b"GET /download/2" + HOST + b"\r\n", 1),
    "get": (b"GET /download/10000" + HOST + b"\r\n", 8),
    "post": (b"POST /sink" + HOST + b"Content-Length: 100\r\n\r\n" + b"x" * 100, 2),
    "upload": (b"POST /sink" + HOST + b"Content-Length: 1000000\r\n\r\n" + b"x" * 1_000_000, 4),
}


@dataclass(slots=True)
class Seen:
    """The responses to others beside one kind of slow client: durations (s), and failures."""

    took: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in OTHERS})
    failures: Counter[str] = field(default_factory=Counter)
    slow: int = 0  # slow clients that were connected at once, at most
    begun: bool = True  # whether each of them had begun before the others came
    most: float = 0.0  # upstream connections in use or idle, at most


class Crowd:
    """The slow clients of one kind: how many are connected, and how many are yet to begin."""

    def __init__(self, number: int) -> None:
        self.connected = 0
        self._missing = number
        self._complete = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Crowd of {self.connected}, {self._missing} missing>"

    def begin(self, *, first: bool) -> None:
        """Note that a client is connected; whether this is its first time."""
        self._missing -= first
        if self._missing <= 0:
            self._complete.set()

    async def all_begun(self) -> bool:
        """Wait until all have begun and hold what they can get; whether they have begun."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self._complete.wait()
        await asyncio.sleep(LEAD)
        return self._complete.is_set()


def check(lab: Lab) -> Finding:
    """Run each kind of slow client beside the same load."""
    port = lab.start_streams()
    of_uploads, of_readers = (
        sidecar.start(lab, name, upstream_port=port, template=f"{name}.toml")
        for name in ("sidecar-uploads", "sidecar-readers")
    )
    found = {"nobody": asyncio.run(beside(of_uploads, None))}
    for name, kind in KINDS.items():
        found[name] = asyncio.run(beside(of_uploads if kind.sends else of_readers, kind))
    return Finding(judge(found), [table(found)])


async def beside(started: Started, kind: SlowClient | None) -> Seen:
    """Send the load of others for `SECONDS` while slow clients of this kind are connected."""
    seen = Seen()
    crowd = Crowd(0 if kind is None else kind.number)
    clients = (
        []
        if kind is None
        else [
            stall(
                started.port,
                kind,
                kind.addresses[number * len(kind.addresses) // kind.number],
                crowd,
            )
            for number in range(kind.number)
        ]
    )
    async with asyncio.TaskGroup() as group:
        slow = [group.create_task(client) for client in clients]
        if kind is not None:
            seen.begun = await crowd.all_begun()
        end = time.monotonic() + SECONDS
        load = [
            group.create_task(use(started.port, name, request, end, seen))
            for name, (request, connections) in OTHERS.items()
            for _ in range(connections)
        ]
        while not all(task.done() for task in load):
            await asyncio.sleep(0.5)
            seen.slow = max(seen.slow, crowd.connected)
            with contextlib.suppress(OSError):  # it is busy
                seen.most = max(seen.most, await asyncio.to_thread(upstream_connections, started))
        for task in slow:
            task.cancel()
    return seen


async def stall(port: int, kind: SlowClient, address: str, crowd: Crowd) -> None:
    """Be a slow client; if its connection ends, it begins again, until cancelled."""
    loop = asyncio.get_running_loop()
    first = True
    while True:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        sock.setblocking(False)
        sock.bind((address, 0))
        with contextlib.closing(sock), contextlib.suppress(OSError):
            await loop.sock_connect(sock, ("127.0.0.1", port))
            crowd.connected += 1
            try:
                crowd.begin(first=first)
                first = False
                await loop.sock_sendall(sock, kind.request)
                since, going = time.monotonic(), True
                while going:
                    await asyncio.sleep(1.0)
                    since, before = time.monotonic(), since
                    going = await drip(sock, kind, int(DRIP * (since - before)))
            finally:
                crowd.connected -= 1
        await asyncio.sleep(0.1)


async def drip(sock: socket.socket, kind: SlowClient, size: int) -> bool:
    """Send or read this many bytes; False if the connection has ended or was answered."""
    if kind.sends:
        await asyncio.get_running_loop().sock_sendall(sock, b"x" * size)
    try:
        data = sock.recv(size)
    except BlockingIOError:
        return True
    return bool(data) and (not kind.sends or data.startswith(b"HTTP/1.1 100 "))


async def use(port: int, name: str, request: bytes, end: float, seen: Seen) -> None:
    """Be one of the others: send the request again and again on one connection."""
    while time.monotonic() < end:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(OTHER, 0))
        except OSError as error:
            seen.failures[f"{name}: {type(error).__name__}"] += 1
            await asyncio.sleep(PAUSE)
            continue
        with contextlib.closing(writer):
            keep = True
            while keep and time.monotonic() < end:
                keep = await ask(reader, writer, name, request, seen)
                await asyncio.sleep(PAUSE)


async def ask(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    name: str,
    request: bytes,
    seen: Seen,
) -> bool:
    """Send one request and count its response; whether the connection can be used again."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(PATIENCE):
            writer.write(request)
            await writer.drain()
            status, keep = await read_answer(reader)
    except (OSError, EOFError, TimeoutError) as error:
        seen.failures[f"{name}: {type(error).__name__}"] += 1
        return False
    if status != "200":
        seen.failures[f"{name}: {status}"] += 1
    seen.took[name].append(time.monotonic() - began)
    return keep


def upstream_connections(started: Started) -> float:
    """The sidecar's connections to the application."""
    return sidecar.metric(started, 'sidecar_connections{side="upstream"}') or 0.0


def judge(found: dict[str, Seen]) -> list[Outcome]:
    """For each kind of slow client: no request of others failed, and each kind was sent."""
    outcomes = []
    for name, seen in found.items():
        number, failed = sum(map(len, seen.took.values())), seen.failures.total()
        shown = ", ".join(f"{count} x {what}" for what, count in seen.failures.most_common(3))
        measured = f"{failed} of {number:,} failed{f': {shown}' if shown else ''}"
        held = not failed and seen.begun and all(seen.took.values())
        clients = Control(f"not all slow clients began within {PATIENCE:g} s", seen.begun)
        bar = "0 failed, of every kind"
        outcomes.append(Outcome(f"slow: {name}", measured, bar, held, clients))
    return outcomes


def table(found: dict[str, Seen]) -> str:
    """The durations of the requests of others beside each kind of slow client."""
    rows = [
        [
            name,
            str(seen.slow),
            f"{seen.most:.0f}",
            *(f"{p99(took) * 1e3:.0f} ms" if len(took) > 1 else "-" for took in seen.took.values()),
        ]
        for name, seen in found.items()
    ]
    columns = [f"{kind}, p99" for kind in OTHERS]
    return report.table(["slow", "clients", "upstream connections", *columns], rows)
