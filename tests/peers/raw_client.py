"""A raw TCP client: sends any bytes, parses answers strictly, tells a clean end from an abort.

It shares no code with the sidecar's parser. A response that breaks RFC 9112 raises `NotHttpError`,
and a response that ends early raises `TruncatedError`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.peers.byte_stream import ByteStream, StreamEndedError
from tests.peers.http_text import (
    BODYLESS,
    Fields,
    NotHttpError,
    content_length,
    is_chunked,
    parse_fields,
    parse_status_line,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator


def build(
    method: str,
    target: str,
    *lines: str,
    token: str | None = None,
    body: bytes | None = None,
    host: str | None = "sidecar.test",
    version: str = "1.1",
) -> bytes:
    """Build a request; `lines` are header lines without CRLF, and a body gets a length."""
    fields = [f"Host: {host}"] if host is not None else []
    fields += [f"Authorization: Bearer {token}"] if token is not None else []
    fields += lines
    fields += [f"Content-Length: {len(body)}"] if body is not None else []
    head = "".join(f"{line}\r\n" for line in (f"{method} {target} HTTP/{version}", *fields))
    return f"{head}\r\n".encode("latin-1") + (body or b"")


@dataclass(slots=True)
class Response:
    """A response as received; `body` is unframed, `interim` are the 1xx before it."""

    status: int
    reason: bytes
    minor: int
    head: bytes
    fields: Fields
    body: bytes = b""
    raw_body: bytes = b""
    trailers: Fields = field(default_factory=Fields)
    interim: list[Response] = field(default_factory=list)

    def json(self) -> Any:
        """Parse the body as JSON."""
        return json.loads(self.body)

    @property
    def closes(self) -> bool:
        """Whether the sidecar announced the end of the connection."""
        return b"close" in self.fields.members("connection")


class TruncatedError(Exception):
    """The response is incomplete: its head, `how` it ended, and the raw body so far."""

    def __init__(self, response: Response | None, how: str, body: bytes) -> None:
        self.response = response
        self.how = how
        self.body = body
        super().__init__(f"{how} in {response!r} after {len(body)} octets of body")


class RawClient(ByteStream):
    """A client connection that sends raw bytes and parses responses."""

    async def response(self, method: str = "GET") -> Response:
        """Read the next final response and the interim ones before it."""
        interim: list[Response] = []
        while True:
            answer = await self.head()
            if answer.status >= 200 or answer.status == 101:
                break
            interim.append(answer)
        answer.interim = interim
        await self._body(answer, method)
        return answer

    async def head(self) -> Response:
        """Read the next response's head, interim or final; its body stays in the stream."""
        try:
            head = await self.until(b"\r\n\r\n")
        except StreamEndedError as end:
            raise TruncatedError(None, end.how, end.partial) from None
        first, _, rest = head[:-4].partition(b"\r\n")
        minor, status, reason = parse_status_line(first)
        return Response(status, reason, minor, head, Fields(parse_fields(rest)))

    async def _body(self, answer: Response, method: str) -> None:
        chunked, length = is_chunked(answer.fields), content_length(answer.fields)
        if method == "HEAD" or answer.status in BODYLESS or answer.status == 101:
            return
        start = len(self.received) - len(self._buffer)
        try:
            if chunked:
                answer.raw_body, answer.body, trailers = await self.chunked_body()
                answer.trailers = Fields(parse_fields(trailers.removesuffix(b"\r\n")))
            elif length is not None:
                answer.body = answer.raw_body = await self.exactly(length)
            else:
                await self._until_close(answer)
        except StreamEndedError as end:
            raise TruncatedError(answer, end.how, bytes(self.received[start:])) from None

    async def _until_close(self, answer: Response) -> None:
        if await self.ended() != "eof":
            raise StreamEndedError("reset", self.pending)
        answer.body = answer.raw_body = self._take(len(self._buffer))

    async def ask(self, request: bytes, method: str | None = None) -> Response:
        """Send one request and read its response."""
        await self.send(request)
        return await self.response(method or request.split(b" ", 1)[0].decode("latin-1"))

    async def silence(self, seconds: float = 0.03) -> None:
        """Fail if the sidecar sends anything or ends the connection within this time (s)."""
        if self._buffer:
            raise AssertionError(f"unexpected bytes {self.pending!r}")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                data = await self.reader.read(65536)
                raise AssertionError(f"unexpected bytes {data!r}" if data else "unexpected end")

    async def rest(self) -> bytes:
        """Return everything up to the end of the connection, clean or not."""
        await self.ended()
        return self._take(len(self._buffer))


@contextlib.asynccontextmanager
async def connect(
    port: int, *, receive_buffer: int | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawClient]:
    """Open a raw client connection and close it on exit."""
    client = await RawClient.connect(port, receive_buffer=receive_buffer, tls=tls)
    try:
        yield client
    finally:
        client.close()
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(1):
                await client.writer.wait_closed()


async def fetch(port: int, request: bytes) -> Response:
    """Send one request on a new connection."""
    async with connect(port) as client:
        return await client.ask(request)


__all__ = ["NotHttpError", "RawClient", "Response", "TruncatedError", "build", "connect", "fetch"]
