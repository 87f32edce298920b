"""Clients that take or send next to nothing, and the clock by which the sidecar loses patience.

The kernel would hide megabytes of what a client does not read; a thin client's small window and
small segments leave it some 100 KiB, so that a few requests fill everything up.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from time import monotonic
from typing import TYPE_CHECKING, Final

from tests.peers.patience import until
from tests.peers.raw_client import RawClient, build

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sidecar.proxy.listener import Listener
    from tests.peers.byte_stream import ByteStream
    from tests.peers.scripted_upstream import Connection, Received, ScriptedUpstream
    from tests.peers.stack import Stack

PIECE: Final = b"p" * 30_000  # of an answer: one segment on loopback, and one read
SETTLE: Final = 0.03  # seconds for an event on loopback to be noticed by the other side
_QUIET: Final = 0.15  # seconds without change after which everything is taken to be at rest
_MANY: Final = 300  # answers of one piece that nothing has room for


def listener_of(proxy: Stack) -> Listener:
    """What accepts its clients."""
    listener = proxy.sidecar._listener  # noqa: SLF001 (nothing public turns its clock)
    assert listener is not None
    return listener


def sweep(proxy: Stack, now: float) -> None:
    """Have the sidecar look for what is late as if it were `now` (monotonic seconds)."""
    listener_of(proxy).sweep(monotonic())  # what was taken so far was not taken as late as that
    listener_of(proxy).sweep(now)


def unswept(proxy: Stack) -> Listener:
    """Its listener, which from now on finds nothing late by itself."""
    listener = listener_of(proxy)
    assert listener._sweeper is not None  # noqa: SLF001 (the same)
    listener._sweeper.cancel()  # noqa: SLF001
    return listener


def strike(proxy: Stack, limit: float) -> None:
    """Have the sidecar believe that this many seconds, and one more, have passed."""
    sweep(proxy, monotonic() + limit + 1)


def thin_socket() -> socket.socket:
    """One behind a thin link, not connected yet."""
    sock = socket.socket()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return sock


@contextlib.asynccontextmanager
async def thin_client(proxy: Stack) -> AsyncIterator[RawClient]:
    """A client behind a thin link, of whose answers the kernel keeps little."""
    sock = thin_socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", proxy.port))
    client = RawClient(*await asyncio.open_connection(sock=sock, limit=1024))
    try:
        yield client
    finally:
        client.writer.transport.abort()


async def fill(client: RawClient, upstream: ScriptedUpstream) -> int:
    """Send requests, one by one and reading nothing, until one is not served; how many were."""
    for served in range(_MANY):
        await client.send(build("GET", f"/{served}"))
        try:
            await upstream.wait(lambda: len(upstream.requests) > served, _QUIET)  # noqa: B023 (at once)
        except TimeoutError:
            return served
    raise AssertionError(f"{_MANY} answers were fetched for a client that takes none")


async def at_rest(count: Callable[[], int]) -> int:
    """Wait until this does not change any more; what it is."""
    before = -1
    while before != (now := count()):
        before = now
        await asyncio.sleep(_QUIET)
    return now


async def ended(upstream: ScriptedUpstream) -> None:
    """Wait until the upstream's first connection has ended."""
    await upstream.wait(lambda: upstream.connections[0].ended_how is not None)


async def all_gone(proxy: Stack) -> None:
    """Wait until no client, no upstream and no request is left."""
    metrics = proxy.sidecar.metrics
    await until(lambda: not any(metrics.connections.values()) and not metrics.in_flight)


class Flood:
    """Writes for as long as the other side takes it, and counts."""

    def __init__(self, framed: bytes) -> None:
        self.sent = 0
        self._framed = framed

    async def run(self, stream: ByteStream) -> None:
        """Until the connection is gone."""
        stream.hold_little(len(self._framed))
        with contextlib.suppress(ConnectionError):
            while not stream.writer.transport.is_closing():
                await stream.send(self._framed)
                self.sent += 1

    async def answer(self, connection: Connection, request: Received) -> None:
        """As a step of a script."""
        await self.run(connection)
        connection.ended_how = "gone"

    async def is_stuck(self) -> None:
        """Wait until nothing is taken any more."""
        await until(lambda: self.sent > 0)
        await at_rest(lambda: self.sent)
