"""Clients that read or send almost nothing, and control over the clock behind the time limits.

The kernel can buffer megabytes that a client does not read, which would hide the effect. A thin
client's small receive window and small segments limit this to some 100 KiB, so a few requests fill
every buffer.
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

PIECE: Final = b"p" * 30_000  # of an answer's body: a single segment on loopback, and a single read
SETTLE: Final = 0.03  # seconds for the other side to notice an event on loopback
_QUIET: Final = 0.15  # seconds without change after which everything counts as at rest
_MANY: Final = 300  # one-piece answers: more than all buffers together can hold


def listener_of(proxy: Stack) -> Listener:
    """Return the listener of this sidecar."""
    listener = proxy.sidecar._listener  # noqa: SLF001 (no public way to advance its clock)
    assert listener is not None
    return listener


def sweep(proxy: Stack, now: float) -> None:
    """Have the sidecar check its deadlines as if the time were `now` (monotonic seconds)."""
    listener_of(proxy).sweep(monotonic())  # what was taken so far does not count as taken later
    listener_of(proxy).sweep(now)


def unswept(proxy: Stack) -> Listener:
    """Stop the listener's own deadline checks and return the listener."""
    listener = listener_of(proxy)
    assert listener._sweeper is not None  # noqa: SLF001 (no public way to stop the sweeper)
    listener._sweeper.cancel()  # noqa: SLF001
    return listener


def strike(proxy: Stack, limit: float) -> None:
    """Have the sidecar check its deadlines as if `limit` + 1 seconds had passed."""
    sweep(proxy, monotonic() + limit + 1)


def thin_socket() -> socket.socket:
    """Return an unconnected socket with small segments and a small receive buffer."""
    sock = socket.socket()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return sock


@contextlib.asynccontextmanager
async def thin_client(proxy: Stack) -> AsyncIterator[RawClient]:
    """Connect a client for whose answers the kernel buffers little."""
    sock = thin_socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", proxy.port))
    client = RawClient(*await asyncio.open_connection(sock=sock, limit=1024))
    try:
        yield client
    finally:
        client.writer.transport.abort()


async def fill(client: RawClient, upstream: ScriptedUpstream) -> int:
    """Send requests one by one, reading nothing, until one is not served; return how many were."""
    for served in range(_MANY):
        await client.send(build("GET", f"/{served}"))
        try:
            await upstream.wait(lambda: len(upstream.requests) > served, _QUIET)  # noqa: B023 (at once)
        except TimeoutError:
            return served
    raise AssertionError(f"{_MANY} answers were fetched for a client that reads none")


async def at_rest(count: Callable[[], int]) -> int:
    """Wait until this count stops changing and return it."""
    before = -1
    while before != (now := count()):
        before = now
        await asyncio.sleep(_QUIET)
    return now


async def ended(upstream: ScriptedUpstream) -> None:
    """Wait until the upstream's first connection has ended."""
    await upstream.wait(lambda: upstream.connections[0].ended_how is not None)


async def all_gone(proxy: Stack) -> None:
    """Wait until no client connection, upstream connection or request is left."""
    metrics = proxy.sidecar.metrics
    await until(lambda: not any(metrics.connections.values()) and not metrics.in_flight)


class Flood:
    """Writes until the connection is gone, as fast as the peer reads, and counts the writes."""

    def __init__(self, framed: bytes) -> None:
        self.sent = 0
        self._framed = framed

    async def run(self, stream: ByteStream) -> None:
        """Write until the connection is gone."""
        stream.hold_little(len(self._framed))
        with contextlib.suppress(ConnectionError):
            while not stream.writer.transport.is_closing():
                await stream.send(self._framed)
                self.sent += 1

    async def answer(self, connection: Connection, request: Received) -> None:
        """Run as a step of an upstream's script."""
        await self.run(connection)
        connection.ended_how = "gone"

    async def is_stuck(self) -> None:
        """Wait until the peer accepts no more data."""
        await until(lambda: self.sent > 0)
        await at_rest(lambda: self.sent)
