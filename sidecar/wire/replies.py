"""The answers this proxy gives by itself, as bytes: problem documents (RFC 9457) and redirects.

Pure: how a page looks comes from outside. No answer echoes a byte of the request but its checked
request id.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

DETAILS: Final = {
    400: "The request is malformed.",
    401: "Valid credentials are required.",
    403: "The credentials do not allow this.",
    404: "After /auth/verify/ comes nginx, traefik, caddy, envoy or haproxy.",
    405: "This method is not served here.",
    408: "The request did not arrive in time.",
    413: "The request is too large.",
    414: "The request target is too long.",
    431: "The request's header section is too large.",
    500: "The request could not be handled.",
    501: "The request asks for something that is not implemented.",
    502: "The application behind this proxy gave no valid answer.",
    503: "The service cannot be reached for the moment.",
    504: "The application behind this proxy did not answer in time.",
    505: "Only HTTP/1.0 and HTTP/1.1 are spoken here.",
}

# What a client should wait, in seconds, before it comes again (RFC 9110 section 10.2.3).
RETRY_SECONDS: Final = 1
RETRY_AFTER: Final = b"Retry-After: %d\r\n" % RETRY_SECONDS
PROBLEM_TYPE: Final = "application/problem+json"
# What a 405 must say (RFC 9110 section 15.5.6); any other method goes on to the upstream, too.
ALLOW: Final = b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"


@dataclass(frozen=True, slots=True)
class Form:
    """An error's answer but for its request: how the head starts, and the body around the id."""

    start: bytes
    before: bytes
    after: bytes


def _document(status: int) -> Form:
    title = HTTPStatus(status).phrase
    body = (
        f'{{"type":"about:blank","title":"{title}","status":{status},'
        f'"detail":"{DETAILS[status]}","request_id":"'
    )
    return Form(_start(status, PROBLEM_TYPE), body.encode(), b'"}\n')


def page(status: int, before: str, after: str, policy: str) -> Form:
    """The same for a person: HTML around the request's id, and its Content-Security-Policy."""
    start = _start(status, "text/html; charset=utf-8")
    policy_line = f"Content-Security-Policy: {policy}\r\n"
    return Form(start + policy_line.encode(), before.encode(), after.encode())


def _start(status: int, content_type: str) -> bytes:
    lines = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        f"Content-Type: {content_type}\r\nCache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\n"
    )
    return lines.encode()


DOCUMENTS: Final = {status: _document(status) for status in DETAILS}


def problem(
    status: int,
    request_id: bytes,
    forms: Mapping[int, Form] = DOCUMENTS,
    *,
    headers: bytes = b"",
    close: bool = False,
    body: bool = True,
) -> bytes:
    """A whole response: an error in its form, more header lines, and the wish to close.

    `body=False` answers a HEAD request: the same head, nothing behind it. KeyError for an unknown
    status.
    """
    form = forms[status]
    return b"".join(
        (
            form.start,
            headers,
            b"Content-Length: %d\r\n" % (len(form.before) + len(request_id) + len(form.after)),
            b"X-Request-Id: ",
            request_id,
            b"\r\nConnection: close\r\n\r\n" if close else b"\r\n\r\n",
            b"%b%b%b" % (form.before, request_id, form.after) if body else b"",
        )
    )


def options(request_id: bytes, *, close: bool = False) -> bytes:
    """What this proxy serves, as the answer to OPTIONS (RFC 9110 section 9.3.7); no content."""
    return _without_content(b"200 OK", ALLOW, request_id, close=close)


def redirect(request_id: bytes, *, headers: bytes, close: bool = False) -> bytes:
    """A 302 without content; `headers` has the Location line."""
    return _without_content(b"302 Found", headers, request_id, close=close)


def _without_content(status: bytes, headers: bytes, request_id: bytes, *, close: bool) -> bytes:
    return b"".join(
        (
            b"HTTP/1.1 %b\r\nCache-Control: no-store\r\nContent-Length: 0\r\n" % status,
            headers,
            b"X-Request-Id: ",
            request_id,
            b"\r\nConnection: close\r\n\r\n" if close else b"\r\n\r\n",
        )
    )
