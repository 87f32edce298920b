"""Independent readers of what the sidecar sends upstream: h11, and llhttp as aiohttp uses it.

Messages that they refuse although RFC 9110 and 9112 allow them are listed here with the reason;
any other refusal is a finding.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import h11
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpProcessingError, HttpRequestParser

ROOM: Final = 1 << 20  # octets, more than in any input

# llhttp accepts a fixed list of methods; RFC 9110 section 9.1 allows any token.
_METHODS: Final = frozenset(
    b"DELETE GET HEAD POST PUT OPTIONS TRACE COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK"
    b" BIND REBIND UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE"
    b" UNSUBSCRIBE PATCH PURGE MKCALENDAR LINK UNLINK SOURCE QUERY".split()
)


@dataclass(frozen=True, slots=True)
class Message:
    """A request as a reader understood it; header names are in lower case."""

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        """All values of this header."""
        return [value for each, value in self.headers if each == name]


class Reader:
    """An h11 server that returns complete requests together with their octets."""

    def __init__(self) -> None:
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=ROOM)
        self._request: h11.Request | None = None
        self._body = b""
        self._octets = b""

    def feed(self, data: bytes) -> list[tuple[Message, bytes]]:
        """The requests that these octets complete. Raises h11.RemoteProtocolError."""
        self._octets += data
        self._connection.receive_data(data)
        whole = []
        while True:
            event = self._connection.next_event()
            if isinstance(event, h11.Request):
                self._request, self._body = event, b""
            elif isinstance(event, h11.Data):
                self._body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                whole.append(self._finish())
            else:  # needs more data, or has paused after a complete request
                return whole

    def _finish(self) -> tuple[Message, bytes]:
        request = self._request
        if request is None:
            raise AssertionError("the end of a message without a request")
        if request.http_version != b"1.1":
            raise AssertionError(f"sent as HTTP/{request.http_version!r}")
        left, _ = self._connection.trailing_data
        octets = self._octets[: len(self._octets) - len(left)]
        self._octets = left
        headers = tuple((bytes(name), bytes(value)) for name, value in request.headers)
        message = Message(bytes(request.method), bytes(request.target), headers, self._body)
        return message, octets

    def answer(self) -> bytes:
        """A response to the completed request: status 200 and body `ok`."""
        connection = self._connection
        response = h11.Response(status_code=200, headers=[(b"Content-Length", b"2")])
        sent = connection.send(response) or b""
        request = self._request
        if request is not None and request.method != b"HEAD":
            sent += connection.send(h11.Data(b"ok")) or b""
        sent += connection.send(h11.EndOfMessage()) or b""
        if connection.our_state is h11.DONE:
            connection.start_next_cycle()
        return sent


async def read_by_llhttp(octets: bytes) -> Message | None:
    """The request in these octets; None if llhttp may refuse it.

    Raises AssertionError if llhttp finds anything but one complete request.
    """
    if octets.split(b" ", 1)[0] not in _METHODS:
        return None
    loop = asyncio.get_running_loop()
    parser = HttpRequestParser(
        BaseProtocol(loop),
        loop,
        ROOM,
        max_line_size=ROOM,
        max_headers=2000,
        max_field_size=ROOM,
        auto_decompress=False,
    )
    try:
        messages, _, tail = parser.feed_data(octets)
    except HttpProcessingError as error:
        if _is_excused(error, octets):
            return None
        raise AssertionError(f"llhttp refuses {octets!r}: {error}") from error
    if len(messages) != 1 or tail:
        raise AssertionError(f"{len(messages)} requests and {tail!r} to llhttp: {octets!r}")
    head, payload = messages[0]
    body = await asyncio.wait_for(payload.read(), 5)
    return Message(head.method.encode(), _octets(head.path), _lowered(head.raw_headers), body)


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _lowered(headers: Any) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((bytes(name).lower(), bytes(value).strip(b" \t")) for name, value in headers)


def _is_excused(error: HttpProcessingError, octets: bytes) -> bool:
    """Whether the refusal is a policy of aiohttp and not a matter of reading the message."""
    # aiohttp refuses the draft handshake of 2010, but the field is an ordinary one.
    return b"sec-websocket-key1" in octets.lower() and "SEC-WEBSOCKET-KEY1" in str(error).upper()
