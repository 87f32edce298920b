"""A TCP connection as the raw peers use it: exact bytes, and how the other side ended it.

Everything read is kept in `received` unless `keep` is false. Every wait has a limit, so a hung peer
fails one test instead of the whole run.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Final, Self

from tests.peers.http_text import NotHttpError, parse_chunk_size
from tests.peers.patience import PATIENCE

if TYPE_CHECKING:
    import ssl

_LINGER_ZERO: Final = struct.pack("ii", 1, 0)


class StreamEndedError(Exception):
    """The other side ended the stream: `how` is "eof" or "reset", `partial` the data read."""

    def __init__(self, how: str, partial: bytes) -> None:
        self.how = how
        self.partial = partial
        super().__init__(f"{how} after {len(partial)} bytes: {partial[-200:]!r}")


class ByteStream:
    """Reads exact pieces from a connection and writes raw bytes to it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.received = bytearray()
        self.total = 0
        self.keep = True
        self.patience: float | None = PATIENCE  # seconds without any data; None: no limit
        self._buffer = bytearray()
        self._ended: str | None = None

    @classmethod
    async def connect(
        cls, port: int, *, receive_buffer: int | None = None, tls: ssl.SSLContext | None = None
    ) -> Self:
        """Connect to a port on loopback; a small `receive_buffer` (octets) reads slowly.

        With `tls` the server's certificate must be for localhost.
        """
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        name = None if tls is None else "localhost"
        reader, writer = await asyncio.open_connection(sock=sock, ssl=tls, server_hostname=name)
        return cls(reader, writer)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.total} bytes in, {self._ended or 'open'}>"

    @property
    def pending(self) -> bytes:
        """The data that has been read but not requested yet."""
        return bytes(self._buffer)

    async def _fill(self) -> bool:
        """Read once; return False if the other side has ended the connection."""
        if self._ended is not None:
            return False
        try:
            async with asyncio.timeout(self.patience):
                data = await self.reader.read(65536)
        except ConnectionError:
            self._ended = "reset"
            return False
        if not data:
            self._ended = "eof"
            return False
        self.total += len(data)
        if self.keep:
            self.received += data
        self._buffer += data
        return True

    def _take(self, count: int) -> bytes:
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    async def exactly(self, count: int) -> bytes:
        """Return the next `count` octets; StreamEndedError if the stream ends before."""
        while len(self._buffer) < count:
            if not await self._fill():
                raise StreamEndedError(self._ended or "", self._take(len(self._buffer)))
        return self._take(count)

    async def until(self, mark: bytes) -> bytes:
        """Return everything up to and including `mark`; StreamEndedError if it never comes."""
        start = 0
        while (at := self._buffer.find(mark, start)) < 0:
            start = max(0, len(self._buffer) - len(mark) + 1)
            if not await self._fill():
                raise StreamEndedError(self._ended or "", self._take(len(self._buffer)))
        return self._take(at + len(mark))

    async def some(self) -> bytes:
        """Return whatever comes next, at least one octet; StreamEndedError at the end."""
        if not self._buffer and not await self._fill():
            raise StreamEndedError(self._ended or "", b"")
        return self._take(len(self._buffer))

    async def chunked_body(self) -> tuple[bytes, bytes, bytes]:
        """Read a chunked body strictly; return `(raw, content, trailer block)`."""
        raw, content = bytearray(), bytearray()
        while True:
            line = await self.until(b"\r\n")
            raw += line
            size = parse_chunk_size(line)
            if not size:
                break
            data = await self.exactly(size + 2)
            raw += data
            if data[-2:] != b"\r\n":
                raise NotHttpError(f"chunk of {size} ends with {data[-2:]!r}")
            content += data[:-2]
        trailers = bytearray()
        while (line := await self.until(b"\r\n")) != b"\r\n":
            trailers += line
        return bytes(raw + trailers + b"\r\n"), bytes(content), bytes(trailers)

    async def ended(self) -> str:
        """Wait for the end of the stream; return "eof" for a clean one, "reset" for an abort."""
        while await self._fill():
            pass
        return self._ended or ""

    def hold_little(self, octets: int) -> None:
        """Limit the send buffers, so back-pressure takes effect after about this many octets."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, octets)
        self.writer.transport.set_write_buffer_limits(high=octets)

    async def send(self, data: bytes) -> None:
        """Write all of the data and wait until the transport has room again."""
        self.writer.write(data)
        await self.writer.drain()

    async def trickle(self, data: bytes) -> None:
        """Write octet by octet, yielding to the event loop after each."""
        self.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(data)):
            self.writer.write(data[at : at + 1])
            await asyncio.sleep(0)
        await self.writer.drain()

    def end(self) -> None:
        """Half-close: send no more, but continue reading."""
        self.writer.write_eof()

    def close(self) -> None:
        """Close normally (FIN)."""
        self.writer.close()

    def reset(self) -> None:
        """Close with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self.writer.transport.abort()
