"""Names and values of headers: what is well-formed, what is the same name, and what lists mean.

Names are compared without regard to case, and `_` equals `-`, because applications fold names in
this way. Knows nothing of connections, or of what a proxy does with a header.
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.errors import Malformed, PeerError

_FOLDED: Final = bytes(c if bytes((c,)).isalnum() else 0x2D for c in range(256))
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_METHOD: Final = re.compile(rb"[A-Z][A-Z0-9-]*\Z")
_MAX_DIGITS: Final = 18  # of a Content-Length


def is_token(value: bytes) -> bool:
    """Whether this is a token (RFC 9110 section 5.6.2), such as a header's name or a method."""
    return _TOKEN.match(value) is not None


def is_method(value: bytes) -> bool:
    """Whether this is a method in canonical spelling: upper-case letters, digits and hyphens.

    Every registered method has this form. RFC 9110 section 9.1 also allows other tokens, but many
    applications convert a method to upper case: they would run `delete` as DELETE.
    """
    return _METHOD.match(value) is not None


def fold(name: bytes) -> bytes:
    """Normalise a header name in the way of CGI-like applications.

    They ignore case, and some of them treat all characters except letters and digits as equal.
    """
    return name.lower().translate(_FOLDED)


def without(lines: list[bytes], names: frozenset[bytes]) -> list[bytes]:
    """Return the lines without those whose folded name is among `names`."""
    return [each for each in lines if fold(each.partition(b":")[0]) not in names]


def parse_tokens(value: bytes) -> frozenset[bytes]:
    """Return the members of a comma-separated list in lower case (RFC 9110 section 5.6.1)."""
    return frozenset(token for part in value.lower().split(b",") if (token := part.strip(b" \t")))


def joined(before: bytes | None, separator: bytes, value: bytes) -> bytes:
    """Append the value of a repeated header to its earlier values (RFC 9110 section 5.2)."""
    return value if before is None else before + separator + value


def parse_length(value: bytes) -> int:
    """Parse a Content-Length: only digits, no list, sign or white space (RFC 9110 section 8.6).

    Raises PeerError(400).
    """
    if not value.isdigit() or len(value) > _MAX_DIGITS:
        raise PeerError(400, "malformed Content-Length", Malformed.CONTENT_LENGTH)
    return int(value)
