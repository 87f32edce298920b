"""Finds the credentials of a request: a bearer token, a session cookie, none, or too many.

Reads the Authorization and Cookie headers only, never the target (RFC 6750 section 2.1). Says which
of several counts, but does not verify any: it knows no keys, routes or sessions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from string import ascii_letters, digits
from typing import TYPE_CHECKING, Final

from sidecar.auth.claimed_issuer import may_be_issued_by
from sidecar.auth.reason import Reason
from sidecar.wire.octets import keeping

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from sidecar.wire.head import RequestHead

# Octets, unless configured. A longer token is rejected before anything is decoded. Users with many
# groups have tokens of 12 KiB (Keycloak, Entra).
MAX_TOKEN: Final = 16384
MAX_COOKIE: Final = 512  # octets of a session cookie's value
MAX_REPEATED: Final = 4  # session cookies of one request that are looked at, to end their logins

# The scheme is a case-insensitive token (RFC 9110 section 11.1); 1*SP and a b64token follow it
# (RFC 6750 section 2.1).
_SCHEME: Final = re.compile(rb"(?i:bearer)(?![!#$%&'*+.^_`|~0-9A-Za-z-])")
_TOKEN: Final = keeping(f"{ascii_letters}{digits}._~+/-".encode())
# An opaque value. It has no dot, so a JWT sent as a cookie can never pass unverified.
_COOKIE_VALUE: Final = re.compile(rb"[A-Za-z0-9_-]+")


class Accepts(StrEnum):
    """Which credentials count; the others are the application's, and are not looked at."""

    ANY = "any"
    BEARER = "bearer"
    COOKIE = "cookie"


@dataclass(frozen=True, slots=True)
class Bearer:
    """The bearer token from the Authorization header, as received."""

    token: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SessionCookie:
    """The value of the session cookie, as received."""

    value: bytes = field(repr=False)


def parse_credentials(
    head: RequestHead,
    cookie_name: bytes,
    issuers: Container[str],
    accepts: Accepts = Accepts.ANY,
    max_token: int = MAX_TOKEN,
) -> Bearer | SessionCookie | Reason:
    """Return the credential of a request, or the reason why it has no usable one.

    Two credentials are refused if both may be ours. A bearer token beside a session cookie is the
    application's if none of `issuers` can have issued it; then the cookie counts.
    """
    value, token = head.authorization or b"", None
    if accepts is not Accepts.COOKIE:
        if head.repeated and b"authorization" in head.repeated:
            return Reason.CREDENTIALS_AMBIGUOUS
        token = parse_bearer(value, max_token) if value else None
    values = []
    if head.cookie is not None and accepts is not Accepts.BEARER:
        values = find_cookies(head.cookie, cookie_name)
    if token is not None and len(values) == 1 and _is_foreign(token, value, issuers):
        token = None
    if token is not None and values:
        return Reason.CREDENTIALS_AMBIGUOUS
    if len(values) > 1:
        return Reason.COOKIE_REPEATED
    if token is not None:
        return token if isinstance(token, Reason) else Bearer(token)
    return _read_cookie(values[0]) if values else Reason.NO_CREDENTIALS


def parse_bearer(value: bytes, max_token: int = MAX_TOKEN) -> bytes | Reason | None:
    """Return the token of an Authorization header, or why it is unusable; None: other scheme."""
    end = 6
    if value[:7] != b"Bearer ":  # otherwise as everyone writes it
        scheme = _SCHEME.match(value)
        if scheme is None:
            return None
        end = scheme.end()
    token = value[end:].lstrip(b" ")
    if len(token) > max_token:
        return Reason.TOKEN_TOO_LONG
    # A regular expression would take 25 instructions for each octet, this takes two.
    text = token.rstrip(b"=")
    if value[end : end + 1] != b" " or not text or text.translate(_TOKEN) != text:
        return Reason.CREDENTIALS_MALFORMED
    return token


def is_without_bearer(head: RequestHead, accepts: Accepts) -> bool:
    """Whether a request has no bearer token that counts; it may have a session cookie.

    Without the cookie, such a request has no credentials. Another would be denied for its token.
    """
    value = head.authorization
    return value is None or accepts is Accepts.COOKIE or parse_bearer(value) is None


def _is_foreign(token: bytes | Reason, value: bytes, issuers: Container[str]) -> bool:
    """Whether no token of these issuers can be in an Authorization header, however it is read.

    `token` is what `parse_bearer` says about its `value`. "Bearer null" and "Bearer 1|abc" are
    usual; what has fewer than two dots holds no JWT. Others are refused if they are malformed, and
    if they are too long to be read.
    """
    if isinstance(token, Reason):
        return value.count(b".") < 2
    return not may_be_issued_by(token, issuers)


def find_cookies(header: bytes, name: bytes) -> list[bytes]:
    """Return every non-empty value of the cookie `name` in a Cookie header (RFC 6265 section 4.2).

    Searches for the name instead of splitting the header: splitting 32 KiB of semicolons would take
    3 ms.
    """
    mark = name + b"="
    found = []
    at, end = header.find(mark), 0  # `end` is the semicolon after the previous pair
    while at >= 0:
        begin = header.rfind(b";", end, at) + 1
        end = header.find(b";", at)
        end = len(header) if end < 0 else end
        value = header[at + len(mark) : end].rstrip(b" \t")
        # Applications delete a cookie by setting it to an empty value.
        if value and not header[begin:at].strip(b" \t"):
            found.append(value)
        at = header.find(mark, end)
    return found


def find_session_cookies(header: bytes, name: bytes) -> list[SessionCookie]:
    """Return the well-formed session cookies in a Cookie header, at most MAX_REPEATED."""
    found = map(_read_cookie, find_cookies(header, name))
    return [each for each in found if isinstance(each, SessionCookie)][:MAX_REPEATED]


def _read_cookie(value: bytes) -> SessionCookie | Reason:
    if len(value) > MAX_COOKIE:
        return Reason.TOKEN_TOO_LONG
    if not _COOKIE_VALUE.fullmatch(value):
        return Reason.TOKEN_MALFORMED
    return SessionCookie(value)


class CredentialFilter:
    """Removes from forwarded header lines what only the sidecar needs to know of a client.

    The result is kept in the head, which the parser uses again for equal requests.
    """

    __slots__ = ("_name", "_pair")

    def __init__(self, cookie_name: bytes) -> None:
        self._name = cookie_name
        # White space around the name is no part of it for some applications.
        self._pair = re.compile(rb"%b[ \t]*=[^;]*" % re.escape(cookie_name))

    def visible(self, head: RequestHead, *, token: bool) -> bytes:
        """Return the lines without the session cookie and, unless `token`, any bearer token."""
        hides_cookie = head.cookie is not None and head.cookie.find(self._name) >= 0
        hides_token = not token and head.authorization is not None
        if not hides_cookie and not hides_token:
            return head.lines
        known = head.visible
        if known is not None and known[0] is head.lines and known[1] is token:
            return known[2]
        found = head.lines
        if hides_cookie:
            found = _changed(found, b"\r\ncookie:", self._without_session)
        if hides_token:
            found = _changed(found, b"\r\nauthorization:", _without_bearer)
        head.visible = (head.lines, token, found)
        return found

    def _without_session(self, line: bytes) -> bytes:
        name, colon, value = line.partition(b":")
        value = value.strip(b" \t\r\n")
        left = self._without_pair(value)
        if left == value:
            return line
        left = left.lstrip(b"; \t")
        return name + colon + b" " + left + b"\r\n" if left else b""

    def _without_pair(self, value: bytes) -> bytes:
        """Search for the name instead of splitting, as `find_cookies` does."""
        parts, at = [], 0
        for found in self._pair.finditer(value):
            begin = max(value.rfind(b";", at, found.start()), at)
            if not value[begin : found.start()].strip(b"; \t"):
                parts.append(value[at:begin])
                at = found.end()
        return b"".join((*parts, value[at:]))


def _without_bearer(line: bytes) -> bytes:
    _, _, value = line.partition(b":")
    return b"" if _SCHEME.match(value.strip()) else line


def _changed(lines: bytes, mark: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Change the lines that begin with `mark`, a CRLF and a name in lower case with its colon.

    Searches for them: splitting all lines would cost as much as parsing them did.
    """
    # A line has the place in `lines` that the CRLF before it has in `lowered`.
    lowered = b"\r\n" + lines.lower()
    parts, end = [], 0
    at = lowered.find(mark)
    while at >= 0:
        after = lines.index(b"\r\n", at) + 2
        parts += [lines[end:at], change(lines[at:after])]
        end = after
        at = lowered.find(mark, after)
    return b"".join((*parts, lines[end:]))
