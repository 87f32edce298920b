"""Parses response heads as strictly as request heads, because upstreams are not trusted either.

RFC 9112. The caller passes the bytes up to the first empty line. Knows nothing of connections or
clients.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from sidecar.errors import PeerError, UpstreamBroken
from sidecar.wire.head import Framing, ResponseHead
from sidecar.wire.header_kinds import HeaderKind
from sidecar.wire.headers import fold, joined, parse_length, parse_tokens, without

if TYPE_CHECKING:
    from sidecar.wire.field_lines import FieldLines
    from sidecar.wire.head import HeadLimits

# In Python 3.11, each access to an enum member is a function call (measured: 0.15 µs).
_CACHE_CONTROL: Final = HeaderKind.CACHE_CONTROL
_CONNECTION: Final = HeaderKind.CONNECTION
_CONTENT_LENGTH: Final = HeaderKind.CONTENT_LENGTH
_TRANSFER_ENCODING: Final = HeaderKind.TRANSFER_ENCODING
_LENGTH: Final = Framing.LENGTH
_CHUNKED: Final = Framing.CHUNKED
_NONE: Final = Framing.NONE

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})( [\t\x20-\x7e\x80-\xff]*)?\Z")


class ResponseParser:
    """Parses the response heads of one upstream connection. Raises UpstreamBroken.

    A busy upstream often sends the same octets again within a second. As in `RequestParser`, the
    last head is kept and used again (measured: 0.9 µs). A head must not be modified. `last` has the
    octets of the last head, empty before the first.
    """

    __slots__ = ("_fields", "_head", "_limits", "_to_head", "last")

    def __init__(self, fields: FieldLines, limits: HeadLimits) -> None:
        self._fields = fields
        self._limits = limits
        self.last = b""
        self._to_head = False
        self._head = ResponseHead()

    def __repr__(self) -> str:
        return f"<ResponseParser last={self._head!r}>"

    def parse(self, raw: bytes, *, to_head: bool) -> ResponseHead:
        """Parse a head up to its empty line; `to_head` says that it answers a HEAD request."""
        if raw == self.last and to_head is self._to_head:
            return self._head
        try:
            head = self._parse(raw)
        except PeerError as error:
            raise UpstreamBroken(f"in the response head: {error.detail}") from None
        status = head.status
        if to_head or status < 200 or status == 204 or status == 304:  # noqa: PLR1714 - the hot path
            head.framing = _NONE
        self.last = raw
        self._to_head = to_head
        self._head = head
        return head

    def _parse(self, raw: bytes) -> ResponseHead:
        received = raw.split(b"\r\n")
        if len(received) > self._limits.headers + 3:
            raise UpstreamBroken("too many header fields in the response")
        head = ResponseHead()
        head.keep_alive, head.cache_control = True, False  # set for the speed of reading
        minor, line = _read_status(head, received[0])
        lines = [line]
        fields = self._fields
        connection = transfer_encoding = None
        for each in received[1:-2]:
            judged = fields.of(each)
            if isinstance(judged, bytes):
                lines.append(judged)
                continue
            kind, _, value, line = judged
            if kind is _CONTENT_LENGTH:
                if head.framing is _LENGTH:
                    raise UpstreamBroken("more than one Content-Length in the response")
                head.length = parse_length(value)
                head.framing = _LENGTH
                # A 1xx or 204 response may not have a length (RFC 9110 section 8.6).
                if head.status >= 200 and head.status != 204:
                    lines.append(line)
            elif kind is _CACHE_CONTROL:
                head.cache_control = True
                lines.append(line)
            elif kind is _CONNECTION:
                connection = joined(connection, b",", value)
            elif kind is _TRANSFER_ENCODING:
                transfer_encoding = joined(transfer_encoding, b",", value)
            else:
                _read_rare(head, kind, value)
        if connection != b"keep-alive" or not minor:
            lines = _conclude_response_connection(head, connection, minor, lines)
        else:
            head.upgrade = None
        if transfer_encoding is not None:
            _conclude_transfer_encoding(head, transfer_encoding, minor)
        lines.append(b"")  # the last line gets its CRLF, too
        head.lines = b"\r\n".join(lines)
        return head


def _read_rare(head: ResponseHead, kind: HeaderKind, value: bytes) -> None:
    if kind is HeaderKind.CALLER:
        head.caller = value
    elif kind is HeaderKind.UPGRADE:
        head.upgrade = joined(head.upgrade, b", ", value.lower())


def _read_status(head: ResponseHead, received: bytes) -> tuple[int, bytes]:
    """Parse a status line (RFC 9112 section 4).

    Returns its minor version, and the line for HTTP/1.1 with the reason phrase as received.
    """
    match = _STATUS_LINE.match(received)
    if match is None:
        raise UpstreamBroken("malformed status line in the response")
    head.status = int(match[2])
    return int(match[1]), b"HTTP/1.1 %b%b" % (match[2], match[3] or b" ")


def _conclude_transfer_encoding(head: ResponseHead, value: bytes, minor: int) -> None:
    if head.framing is _LENGTH or value.lower() != b"chunked":
        raise UpstreamBroken("Transfer-Encoding of the response is not just chunked")
    head.framing = _CHUNKED
    if not minor:
        head.keep_alive = False  # its framing cannot be trusted (RFC 9112 section 6.1)


def _conclude_response_connection(
    head: ResponseHead, value: bytes | None, minor: int, lines: list[bytes]
) -> list[bytes]:
    tokens = parse_tokens(value or b"")
    head.keep_alive = b"close" not in tokens and (minor == 1 or b"keep-alive" in tokens)
    if b"upgrade" not in tokens:
        head.upgrade = None
    named = frozenset(map(fold, tokens)) - {b"close", b"keep-alive", b"upgrade", b"content-length"}
    if b"cache-control" in named:
        head.cache_control = False
    return lines if not named else lines[:1] + without(lines[1:], named)
