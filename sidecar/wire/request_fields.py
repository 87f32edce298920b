"""What the less frequent headers of a request mean, and the rules that need all of them.

RFC 9112 sections 6 and 9.3, RFC 9110 section 7.6.1. Knows nothing of request lines, or of memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.errors import Malformed, PeerError
from sidecar.wire.head import Framing
from sidecar.wire.header_kinds import HeaderKind
from sidecar.wire.headers import fold, joined, parse_length, parse_tokens, without

if TYPE_CHECKING:
    from sidecar.wire.head import RequestHead

# In Python 3.11, each access to an enum member is a function call (measured: 0.15 µs).
_HOST: Final = HeaderKind.HOST
_AUTHORIZATION: Final = HeaderKind.AUTHORIZATION
_CONNECTION: Final = HeaderKind.CONNECTION
_CONTENT_LENGTH: Final = HeaderKind.CONTENT_LENGTH
_TRANSFER_ENCODING: Final = HeaderKind.TRANSFER_ENCODING
_UPGRADE: Final = HeaderKind.UPGRADE
_EXPECT: Final = HeaderKind.EXPECT
_ORIGIN: Final = HeaderKind.ORIGIN
_FETCH_SITE: Final = HeaderKind.FETCH_SITE
_WEBSOCKET_KEY: Final = HeaderKind.WEBSOCKET_KEY
_METHOD_OVERRIDE: Final = HeaderKind.METHOD_OVERRIDE
_LENGTH: Final = Framing.LENGTH
_CHUNKED: Final = Framing.CHUNKED
_NONE: Final = Framing.NONE

# Connection may not name these (RFC 9110 section 7.6.1).
_FOR_ALL: Final = frozenset((b"host", b"max-forwards"))


def read_forwarded(head: RequestHead, name: bytes, value: bytes) -> None:
    """Store the value of a forwarded header."""
    if head.forwarded is None:
        head.forwarded = {name: value}
    else:
        head.forwarded[name] = joined(head.forwarded.get(name), b", ", value)


def read_field(head: RequestHead, kind: HeaderKind, name: bytes, value: bytes) -> bool:
    """Store what the sidecar needs of a header in the head; whether its line is passed on."""
    if kind is _FETCH_SITE:
        if head.fetch_site is not None:
            head.repeated |= {b"sec-fetch-site"}
        head.fetch_site = value
    elif kind is _ORIGIN:
        if head.origin is not None:
            head.repeated |= {b"origin"}
        head.origin = value
    elif kind is _CONTENT_LENGTH:
        if head.length >= 0:
            raise PeerError(400, "more than one Content-Length", Malformed.CONTENT_LENGTH)
        head.length = parse_length(value)
        head.framing = _LENGTH if head.length else _NONE
    elif kind is _EXPECT:
        head.expect_continue = value.lower() == b"100-continue"
    elif kind is _WEBSOCKET_KEY:
        head.websocket_key = True
    elif kind is _HOST:
        raise PeerError(400, "more than one Host", Malformed.HOST)
    elif kind is _AUTHORIZATION:
        head.repeated |= {b"authorization"}
    else:
        _read_dropped(head, kind, name, value)
        return False
    return True


def _read_dropped(head: RequestHead, kind: HeaderKind, name: bytes, value: bytes) -> None:
    """Store the value of a header that is hop-by-hop, or that the sidecar writes anew."""
    if kind is _CONNECTION:
        head.connection = joined(head.connection, b",", value)
    elif kind is _TRANSFER_ENCODING:
        head.transfer_encoding = joined(head.transfer_encoding, b",", value)
    elif kind is _UPGRADE:
        head.upgrade = joined(head.upgrade, b", ", value.lower())
    elif kind is _METHOD_OVERRIDE:
        head.overrides += ((name, value),)


def conclude(head: RequestHead, lines: list[bytes]) -> list[bytes]:
    """Apply the rules that need all headers; return the lines that are still passed on."""
    if head.connection is not None:
        lines = _conclude_connection(head, head.connection, lines)
    else:
        head.upgrade = None  # ignored if Connection does not name it (RFC 9110 section 7.8)
        head.keep_alive = head.minor == 1
    if not head.minor:
        head.upgrade = None  # ignored in HTTP/1.0
        if not head.host:
            # The request is forwarded as HTTP/1.1, which requires Host, even if it is empty
            # (RFC 9112 section 3.2).
            lines = [b"Host: ", *lines]
    if head.transfer_encoding is not None:
        _conclude_transfer_encoding(head, head.transfer_encoding)
    return lines


def _conclude_connection(head: RequestHead, value: bytes, lines: list[bytes]) -> list[bytes]:
    """Apply Connection: persistence, upgrade, and the hop-by-hop headers that it names.

    RFC 9112 section 9.3, RFC 9110 section 7.6.1. Returns the lines that are still passed on.
    """
    tokens = parse_tokens(value)
    head.keep_alive = b"close" not in tokens and (head.minor == 1 or b"keep-alive" in tokens)
    if b"upgrade" not in tokens:
        head.upgrade = None
    named = frozenset(map(fold, tokens)) - {b"close", b"keep-alive", b"upgrade"} - _FOR_ALL
    if not named:
        return lines
    if b"content-length" in named and head.framing is _LENGTH:
        raise PeerError(400, "Connection names Content-Length", Malformed.CONNECTION)
    if any(fold(name) in named for name, _ in head.overrides):
        raise PeerError(400, "Connection names a method override", Malformed.CONNECTION)
    return without(lines, named)


def _conclude_transfer_encoding(head: RequestHead, value: bytes) -> None:
    """Check Transfer-Encoding: only chunked, and never together with Content-Length.

    RFC 9112 sections 6.1 and 6.3. Raises PeerError.
    """
    if head.length >= 0:
        raise PeerError(400, "Transfer-Encoding beside Content-Length", Malformed.TRANSFER_ENCODING)
    if not head.minor:
        raise PeerError(400, "Transfer-Encoding in HTTP/1.0", Malformed.TRANSFER_ENCODING)
    if value.lower() != b"chunked":
        raise PeerError(501, "only the chunked coding is known here", Malformed.TRANSFER_ENCODING)
    head.framing = _CHUNKED
