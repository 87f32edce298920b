"""The raw peers' HTTP/1.1: just enough to split a byte stream into messages.

It parses what the sidecar sends strictly (RFC 9112), so a framing fault there fails a test here. It
shares no code with the sidecar.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[^\r\n]*)?\r\n")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9]) ([^\r\n\0]*)")
BODYLESS: Final = frozenset({204, 304})


class NotHttpError(Exception):
    """The peer sent bytes that are not a well-formed HTTP/1.1 message."""


def parse_fields(block: bytes) -> list[tuple[bytes, bytes]]:
    """Parse a block of header or trailer lines, without its empty last line, in order."""
    fields = []
    for line in block.split(b"\r\n") if block else ():
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name) or re.search(rb"[\r\n\0]", value):
            raise NotHttpError(f"bad header line {line!r}")
        fields.append((name, value.strip(b" \t")))
    return fields


@dataclass(slots=True)
class Fields:
    """Header lines with case-insensitive lookup."""

    items: list[tuple[bytes, bytes]] = field(default_factory=list)

    def all(self, name: str) -> list[bytes]:
        """Return every value of this header, in order."""
        wanted = name.lower().encode("ascii")
        return [value for key, value in self.items if key.lower() == wanted]

    def one(self, name: str) -> bytes:
        """Return the value of a header that must occur exactly once."""
        values = self.all(name)
        if len(values) != 1:
            raise AssertionError(f"{name}: expected one value, got {values!r} in {self.items!r}")
        return values[0]

    def names(self) -> list[bytes]:
        """Return the header names in order, as sent."""
        return [name for name, _ in self.items]

    def members(self, name: str) -> list[bytes]:
        """Return the comma-separated members of a list header in lower case."""
        return [
            part.strip().lower()
            for value in self.all(name)
            for part in value.split(b",")
            if part.strip()
        ]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.all(name))


def content_length(fields: Fields) -> int | None:
    """Return the declared length or None; NotHttpError unless it is digits and occurs once."""
    values = fields.all("content-length")
    if not values:
        return None
    if len(values) > 1 or not re.fullmatch(rb"[0-9]+", values[0]):
        raise NotHttpError(f"bad content-length {values!r}")
    if "transfer-encoding" in fields:
        raise NotHttpError("both content-length and transfer-encoding")
    return int(values[0])


def is_chunked(fields: Fields) -> bool:
    """Return whether the body is chunked; NotHttpError for any other transfer coding."""
    values = fields.members("transfer-encoding")
    if values and values != [b"chunked"]:
        raise NotHttpError(f"unexpected transfer-encoding {values!r}")
    return bool(values)


def parse_status_line(line: bytes) -> tuple[int, int, bytes]:
    """Return `(minor version, status, reason)` of a response's first line."""
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise NotHttpError(f"bad status line {line!r}")
    return int(match[1]), int(match[2]), match[3]


def parse_chunk_size(line: bytes) -> int:
    """Return the size in a chunk's first line, which includes the CRLF."""
    match = _CHUNK_SIZE.fullmatch(line)
    if match is None:
        raise NotHttpError(f"bad chunk line {line!r}")
    return int(match[1], 16)


def chunked(*pieces: bytes, trailers: bytes = b"") -> bytes:
    """Build a chunked body of these pieces; `trailers` are whole lines."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece)
    return body + b"0\r\n" + trailers + b"\r\n"
