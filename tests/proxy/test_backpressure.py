"""A peer that does not read stops the peer that writes: memory stays bounded and nothing is lost.

The bound applies to all that the writer was able to send, so it covers the sidecar's buffers and
the kernel's buffers of both hops.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import TYPE_CHECKING, Final

import pytest

from tests.peers.byte_stream import StreamEndedError
from tests.peers.patience import until
from tests.peers.raw_client import build
from tests.peers.scripted_upstream import EARLY, OK, STALL, Connection, Received, ScriptedUpstream
from tests.peers.stack import PUBLIC, Stack, stack
from tests.proxy.handshake import ASK, SWITCH

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.peers.byte_stream import ByteStream

SIZE: Final = 64 << 20
BOUND: Final = 16 << 20  # of which the kernel's buffers of the two hops take 5 to 9 MiB
PIECE: Final = bytes(range(256)) * 256  # 64 KiB
SMALL: Final = 64 << 10  # size of the kernel buffers at both ends: small, to hide little
DIGEST: Final = hashlib.sha256(PIECE * (SIZE // len(PIECE))).digest()

HEADS: Final = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE,
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "until-close": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
    "tunnel": SWITCH,
}


class Pump:
    """Writes SIZE octets as fast as the peer reads, and counts them."""

    def __init__(self, framing: str) -> None:
        self.sent = 0
        self._framing = framing

    async def run(self, stream: ByteStream) -> None:
        """Write the whole body in this pump's framing."""
        stream.hold_little(SMALL)
        for _ in range(SIZE // len(PIECE)):
            framed = b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if self._framing == "chunked" else PIECE
            await stream.send(framed)
            self.sent += len(PIECE)
        if self._framing == "chunked":
            await stream.send(b"0\r\n\r\n")

    async def stuck(self) -> int:
        """Wait until no more data moves and return the number of octets sent so far."""
        before = -1
        while before != self.sent:
            before = self.sent
            await asyncio.sleep(0.1)
        return self.sent


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """An upstream that keeps no bodies and reads no further ahead than 4 KiB."""
    async with ScriptedUpstream(keep=False, read_ahead=4096, receive_buffer=SMALL) as server:
        yield server


async def drained(stream: ByteStream, framing: str) -> bytes:
    """Read a body of SIZE octets to its end and return its digest."""
    digest, left = hashlib.sha256(), SIZE
    while left:
        if framing == "chunked":
            size = int((await stream.until(b"\r\n"))[:-2], 16)
            digest.update(await stream.exactly(size))
            assert await stream.exactly(2) == b"\r\n"
        else:
            piece = await stream.some()
            size = len(piece)
            digest.update(piece)
        left -= size
    if framing == "chunked":
        assert await stream.exactly(5) == b"0\r\n\r\n"
    return digest.digest()


@pytest.mark.parametrize("framing", ["length", "chunked", "until-close", "tunnel"])
async def test_client_that_does_not_read(
    upstream: ScriptedUpstream, proxy: Stack, framing: str
) -> None:
    """A download pauses while its client does not read, then completes intact."""
    pump = Pump(framing)

    async def answer(connection: Connection, request: Received) -> None:
        await pump.run(connection)
        if framing in {"until-close", "tunnel"}:
            connection.close()

    upstream.scripts = [[HEADS[framing], answer]]
    ask = ASK if framing == "tunnel" else ()
    async with proxy.client(receive_buffer=SMALL) as client:
        client.keep = False
        await client.send(build("GET", "/", *ask))
        answered = await client.head()
        assert await pump.stuck() < BOUND
        wire = "chunked" if "transfer-encoding" in answered.fields else framing
        assert await drained(client, wire) == DIGEST
        if framing in {"length", "chunked"}:
            upstream.scripts = [[OK]]
            assert (await client.ask(build("GET", "/next"))).body == b"ok"


@pytest.mark.parametrize("framing", ["length", "chunked", "tunnel"])
async def test_upstream_that_does_not_read(
    upstream: ScriptedUpstream, proxy: Stack, framing: str
) -> None:
    """An upload pauses while the upstream does not read, then completes intact."""
    found: list[bytes] = []

    async def consume(connection: Connection, request: Received) -> None:
        wire = "chunked" if "transfer-encoding" in request.fields else framing
        found.append(await drained(connection, wire))

    switch = [HEADS["tunnel"]] if framing == "tunnel" else []
    upstream.scripts = [[EARLY, *switch, STALL, consume, OK]]
    pump = Pump(framing)
    line = {
        "length": (f"Content-Length: {SIZE}",),
        "chunked": ("Transfer-Encoding: chunked",),
        "tunnel": ASK,
    }[framing]
    async with proxy.client() as client:
        await client.send(build("GET" if framing == "tunnel" else "POST", "/", *line))
        if framing == "tunnel":
            assert (await client.response()).status == 101
        pumping = asyncio.create_task(pump.run(client))
        assert await pump.stuck() < BOUND
        upstream.release.set()
        await pumping
        if framing == "tunnel":
            assert await client.exactly(len(OK)) == OK
        else:
            assert (await client.response("POST")).status == 200
    assert found == [DIGEST]


async def test_stuck_client_holds_up_nobody_else(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """While a client leaves its download unread, requests of other clients are served."""
    pump = Pump("length")

    async def answer(connection: Connection, request: Received) -> None:
        if request.target == b"/large":
            await connection.send(HEADS["length"])
            with contextlib.suppress(ConnectionError, StreamEndedError):
                await pump.run(connection)
        else:
            await connection.send(OK)

    upstream.scripts = [[answer]]
    async with proxy.client(receive_buffer=SMALL) as client:
        await client.send(build("GET", "/large"))
        await pump.stuck()
        for _ in range(3):
            assert (await proxy.get("/small")).body == b"ok"
        client.reset()


@pytest.mark.parametrize("paths", ["proxied", "refused", "verify"])
async def test_flood_of_pipelined_requests_is_bounded(
    upstream: ScriptedUpstream, paths: str
) -> None:
    """The sidecar stops reading from a client that pipelines and never reads (CVE-2026-54273)."""
    routes = {"proxied": PUBLIC}.get(paths, ())
    target = "/auth/verify" if paths == "verify" else "/x"
    request = build("GET", target, "X-Pad: " + "p" * 200)  # about as long as its answer
    sent = 0

    async def flood(client: ByteStream) -> None:
        nonlocal sent
        client.hold_little(SMALL)
        while sent < 2 * BOUND:
            await client.send(request * 20)
            sent += len(request) * 20

    upstream.scripts = [[STALL, OK]]
    async with stack(upstream.url, routes=routes, access_log="off") as proxy:
        async with proxy.client(receive_buffer=SMALL) as client:
            flooding = asyncio.create_task(flood(client))
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.1)
            assert sent < BOUND
            flooding.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await flooding
            client.reset()
        upstream.release.set()


async def test_pipelined_large_answers_are_bounded(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """Pipelined small requests do not make the sidecar buffer large answers that are not read."""
    size = 200_000  # octets: small enough that an answer often arrives in a single read
    upstream.scripts = [[b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size]]
    count = 2 * BOUND // size
    async with proxy.client(receive_buffer=SMALL) as client:
        client.keep = False
        await client.send(build("GET", "/") * count)
        before = -1
        while before != len(upstream.requests):
            before = len(upstream.requests)
            await asyncio.sleep(0.1)
        assert before * size < BOUND
        for _ in range(count):
            assert len((await client.response()).body) == size


async def test_upload_to_a_dead_end_is_given_up(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """A client that leaves in the middle of a stalled upload frees everything it held."""
    upstream.scripts = [[EARLY, STALL]]
    pump = Pump("length")
    async with proxy.client() as client:
        await client.send(build("POST", "/", f"Content-Length: {SIZE}"))
        pumping = asyncio.create_task(pump.run(client))
        await pump.stuck()
        pumping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await pumping
        client.reset()

    async def is_idle() -> bool:
        return not await proxy.metric("sidecar_requests_in_flight")

    await until(is_idle)
