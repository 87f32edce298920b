"""Misbehaving clients, which leave, stall or send nonsense: each repeats one manner.

Owns what they send and how they end. Must not judge the reaction of the other side.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from bench.polling import request
from bench.scenarios import MIB, spoiled
from bench.sidecar import PASSWORD, USER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

PAUSE: Final = 0.1  # seconds between two connections of one client, at most
HOLD: Final = 2.0  # seconds that a stalling client waits, at most
ABANDONED: Final = 45.0  # seconds; longer than the sidecar's timeouts for incomplete requests
RECEIVE_BUFFER: Final = 16 << 10  # octets; small, so that unread data fills the sidecar's buffers
ALL: Final = 1 << 40  # octets of a response; more than any has
BODY: Final = b"x" * (64 << 10)
CHUNKED: Final = "Transfer-Encoding: chunked\r\n"
LENGTH: Final = f"Content-Length: {len(BODY)}\r\n"
CHUNKS: Final = b"10000\r\n%b\r\n0\r\n\r\n" % BODY
HELLO: Final = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32)  # a TLS ClientHello
SWITCH: Final = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
# Masked with zeros, which leaves the payload unchanged: RFC 6455 section 5.2.
MESSAGE: Final = b"\x82\xff" + (1 * MIB).to_bytes(8) + bytes(4) + b"x" * MIB
CREDENTIALS: Final = b'{"username": "%b", "password": "%b"}' % (USER.encode(), PASSWORD.encode())
LOGIN: Final = (
    b"POST /auth/login HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(CREDENTIALS), CREDENTIALS)
)
_NO_LINGER: Final = struct.pack("ii", 1, 0)


class End(Enum):
    """How a connection ends."""

    RESET = "reset"
    CLOSE = "close"
    HALF_CLOSE = "half-close"  # sends no more, but reads
    STALL = "stall"  # neither sends nor reads for a while, then resets
    ABANDON = "abandon"  # the same, but for longer than the sidecar waits


LIVELY: Final = (End.RESET, End.CLOSE, End.HALF_CLOSE, End.STALL)


@dataclass(frozen=True, slots=True)
class Manner:
    """What a client does before it ends its connection."""

    sends: Callable[[str], bytes]  # from a token
    reads: int = 0  # octets of the response
    then: bytes = b""  # sent after reading
    cut: bool = False  # whether the last part sent is cut at a random place
    fresh: bool = False  # whether to use a token whose session must be looked up


MANNERS: Final = {
    "silence": Manner(lambda _: b""),
    "head": Manner(lambda token: request("GET /", token), cut=True),
    "nonsense": Manner(lambda _: HELLO),
    "body": Manner(lambda token: request("POST /sink", token, LENGTH) + BODY, cut=True),
    "chunks": Manner(lambda token: request("POST /sink", token, CHUNKED) + CHUNKS, cut=True),
    "streamed body": Manner(
        lambda token: request("POST /app/sink", token, LENGTH), then=BODY, cut=True
    ),
    "continue": Manner(
        lambda token: request("POST /sink", token, f"{LENGTH}Expect: 100-continue\r\n"), reads=1
    ),
    "refused body": Manner(
        lambda token: request("POST /sink", spoiled(token), LENGTH) + BODY, cut=True
    ),
    "answer": Manner(lambda token: request("GET /files/1m", token), reads=1000),
    "stream": Manner(lambda token: request("GET /app/download/8000000?chunked", token), reads=1000),
    "events": Manner(lambda token: request("GET /app/events", token), reads=200),
    "slow answer": Manner(lambda token: request("GET /slow", token)),
    "look-up": Manner(lambda token: request("GET /", token), fresh=True),
    "look-up with a body": Manner(
        lambda token: request("POST /sink", token, LENGTH) + BODY, fresh=True, cut=True
    ),
    "pipeline": Manner(lambda token: request("GET /files/10k", token) * 50, reads=1),
    "tunnel": Manner(
        lambda token: request("GET /app/echo", token, SWITCH), reads=100, then=MESSAGE, cut=True
    ),
    "whole message": Manner(
        lambda token: request("GET /app/echo", token, SWITCH), reads=100, then=MESSAGE
    ),
    "login": Manner(lambda _: LOGIN),
    "part of a login": Manner(lambda _: LOGIN, cut=True),
    "broken answer": Manner(lambda token: request("GET /app/cut", token), reads=ALL),
    "broken chunks": Manner(lambda token: request("GET /app/cut?chunked", token), reads=ALL),
    "reset upstream": Manner(lambda token: request("GET /reset", token), reads=100),
}


@dataclass(frozen=True, slots=True)
class Crowd:
    """All misbehaving clients of one sidecar; `fresh` yields tokens that are not in its caches."""

    port: int
    token: str
    fresh: Iterator[str]
    seen: Counter[tuple[str, End]] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)  # ended early by the sidecar

    def clients(self) -> Iterator[asyncio.Task[None]]:
        """Start two lively clients and one abandoning client per manner, to be cancelled later."""
        for name, manner in MANNERS.items():
            for ends in (LIVELY, LIVELY, (End.ABANDON,)):
                yield asyncio.create_task(self._client(name, manner, ends), name=name)

    async def _client(self, name: str, manner: Manner, ends: Sequence[End]) -> None:
        while True:
            end = random.choice(ends)
            try:
                await self._visit(manner, end)
            except OSError:  # the sidecar ended the connection first
                self.ended[name] += 1
            self.seen[name, end] += 1
            await asyncio.sleep(random.uniform(0, PAUSE))

    async def _visit(self, manner: Manner, end: End) -> None:
        sends, then = manner.sends(next(self.fresh) if manner.fresh else self.token), manner.then
        if manner.cut:
            sends, then = (sends, cut(then)) if then else (cut(sends), then)
        async with calling(self.port) as connection:
            # If the sidecar neither reads nor responds, the client ends at this point.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HOLD):
                    await connection.send(sends)
                    await connection.read(manner.reads)
                    await connection.send(then)
            await connection.end(end)


@dataclass(frozen=True, slots=True)
class Connection:
    """A socket from which data is read only on request."""

    socket: socket.socket

    async def send(self, data: bytes) -> None:
        """Send all data. Raises OSError."""
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def read(self, count: int) -> None:
        """Read this many octets, or until the other side closes the connection."""
        loop = asyncio.get_running_loop()
        while count > 0 and (data := await loop.sock_recv(self.socket, min(count, 1 << 16))):
            count -= len(data)

    async def end(self, how: End) -> None:
        """Perform the steps that precede closing the socket."""
        if how is End.HALF_CLOSE:
            self.socket.shutdown(socket.SHUT_WR)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HOLD):
                    await self.read(ALL)
        elif how is not End.CLOSE:
            if how is not End.RESET:
                most = ABANDONED if how is End.ABANDON else random.uniform(0, HOLD)
                await asyncio.sleep(most)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


@contextlib.asynccontextmanager
async def calling(port: int) -> AsyncIterator[Connection]:
    """Open a connection to this port, and close it on leaving. Raises OSError."""
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        yield Connection(sock)


def cut(data: bytes) -> bytes:
    """A random prefix of the data, neither empty nor complete."""
    return data[: random.randrange(1, len(data))]
