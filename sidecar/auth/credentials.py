"""Which credentials a request carries: a bearer token, a session cookie, none, or too many.

Reads the two headers and nothing else, never the target (RFC 6750 section 2.1). Knows no keys,
routes or sessions; whether the credentials are any good is for others to say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sidecar.auth.reason import Reason

if TYPE_CHECKING:
    from sidecar.wire.head import RequestHead

MAX_TOKEN: Final = 8192  # octets; longer ones are refused before anything is decoded
MAX_COOKIE: Final = 512  # octets of a session cookie's value

# RFC 9110 section 11.1: the scheme is a token, in any case; RFC 6750 section 2.1: then 1*SP
# b64token.
_SCHEME: Final = re.compile(rb"(?i:bearer)(?![!#$%&'*+.^_`|~0-9A-Za-z-])")
_TOKEN: Final = re.compile(rb" +([A-Za-z0-9._~+/-]+=*)")
# An opaque value; no dot, so that a token can never stand in for a cookie and go unverified.
_COOKIE_VALUE: Final = re.compile(rb"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Bearer:
    """The bearer token of the Authorization header, as received."""

    token: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SessionCookie:
    """The value of the session cookie, as received."""

    value: bytes = field(repr=False)


def parse_credentials(head: RequestHead, cookie_name: bytes) -> Bearer | SessionCookie | Reason:
    """The one credential of a request, or why there is none that could be used."""
    if head.repeated and b"authorization" in head.repeated:
        return Reason.CREDENTIALS_AMBIGUOUS
    token = None if head.authorization is None else parse_bearer(head.authorization)
    values = [] if head.cookie is None else find_cookies(head.cookie, cookie_name)
    if len(values) + (token is not None) > 1:
        return Reason.CREDENTIALS_AMBIGUOUS
    if token is not None:
        return token if isinstance(token, Reason) else Bearer(token)
    return _read_cookie(values[0]) if values else Reason.NO_CREDENTIALS


def parse_bearer(value: bytes) -> bytes | Reason | None:
    """The token in an Authorization header, why it has none, or None for another scheme."""
    scheme = _SCHEME.match(value)
    if scheme is None:
        return None
    token = value[scheme.end() :].lstrip(b" ")
    if len(token) > MAX_TOKEN:
        return Reason.TOKEN_TOO_LONG
    match = _TOKEN.fullmatch(value, scheme.end())
    return Reason.CREDENTIALS_MALFORMED if match is None else match[1]


def find_cookies(header: bytes, name: bytes) -> list[bytes]:
    """Every non-empty value under exactly this name in a Cookie header (RFC 6265 section 4.2).

    Looks at the name's own places alone: 32 KiB of semicolons would take 3 ms to split.
    """
    mark = name + b"="
    found = []
    at, end = header.find(mark), 0  # `end`: of the pair looked at before, at its semicolon
    while at >= 0:
        begin = header.rfind(b";", end, at) + 1
        end = header.find(b";", at)
        end = len(header) if end < 0 else end
        value = header[at + len(mark) : end].rstrip(b" \t")
        # An empty value is how applications put an end to a cookie.
        if value and not header[begin:at].strip(b" \t"):
            found.append(value)
        at = header.find(mark, end)
    return found


def _read_cookie(value: bytes) -> SessionCookie | Reason:
    if len(value) > MAX_COOKIE:
        return Reason.TOKEN_TOO_LONG
    if not _COOKIE_VALUE.fullmatch(value):
        return Reason.TOKEN_MALFORMED
    return SessionCookie(value)
