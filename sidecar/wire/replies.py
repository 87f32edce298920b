"""The responses that the proxy makes itself, as bytes: problem documents (RFC 9457), redirects.

Pure: the HTML of a page is an argument. A response never repeats anything of the request except the
checked request id.
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
    404: "After /verify/ comes nginx, traefik, caddy, envoy or haproxy.",
    405: "This method is not served here.",
    408: "The request did not arrive in time.",
    413: "The request is too large.",
    414: "The request target is too long.",
    429: "There are too many requests from this client.",
    431: "The request's header section is too large.",
    500: "The request could not be handled.",
    501: "The request asks for something that is not implemented.",
    502: "The application behind this proxy gave no valid answer.",
    503: "The service cannot be reached for the moment.",
    504: "The application behind this proxy did not answer in time.",
    505: "Only HTTP/1.0 and HTTP/1.1 are spoken here.",
}

# How long a client should wait before it retries, in seconds (RFC 9110 section 10.2.3).
RETRY_SECONDS: Final = 1
RETRY_AFTER: Final = b"Retry-After: %d\r\n" % RETRY_SECONDS
PROBLEM_TYPE: Final = "application/problem+json"
# A 405 must have this header (RFC 9110 section 15.5.6). Other methods are forwarded as well.
ALLOW: Final = b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"


@dataclass(frozen=True, slots=True)
class ReplyTemplate:
    """An error response without the parts of a request: the start of the head, and the body.

    The request id is inserted between `before` and `after`.
    """

    start: bytes
    before: bytes
    after: bytes


def document(status: int, reason: str = "") -> ReplyTemplate:
    """Make the template of a problem document; `reason` is the word for what is malformed.

    Raises KeyError for an unknown status.
    """
    title = HTTPStatus(status).phrase
    named = f'"reason":"{reason}",' if reason else ""
    body = (
        f'{{"type":"about:blank","title":"{title}","status":{status},'
        f'"detail":"{DETAILS[status]}",{named}"request_id":"'
    )
    return ReplyTemplate(_start(status, PROBLEM_TYPE), body.encode(), b'"}\n')


def page(status: int, before: str, after: str, policy: str) -> ReplyTemplate:
    """Make the template of an HTML error page: the text around the request id, and its CSP."""
    start = _start(status, "text/html; charset=utf-8")
    policy_line = f"Content-Security-Policy: {policy}\r\n"
    return ReplyTemplate(start + policy_line.encode(), before.encode(), after.encode())


def _start(status: int, content_type: str) -> bytes:
    lines = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        f"Content-Type: {content_type}\r\nCache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\n"
    )
    return lines.encode()


DOCUMENTS: Final = {status: document(status) for status in DETAILS}
_STATUSES: Final = {each: b"%d %b" % (each, HTTPStatus(each).phrase.encode()) for each in DETAILS}


def problem(
    status: int,
    request_id: bytes,
    templates: Mapping[int, ReplyTemplate] = DOCUMENTS,
    *,
    headers: bytes = b"",
    close: bool = False,
    body: bool = True,
) -> bytes:
    """Make a complete error response. `headers` are additional header lines.

    `close` announces that the connection closes; `body=False` leaves out the body, for HEAD. Raises
    KeyError for an unknown status.
    """
    template = templates[status]
    return b"".join(
        (
            template.start,
            headers,
            b"Content-Length: %d\r\n"
            % (len(template.before) + len(request_id) + len(template.after)),
            b"X-Request-Id: ",
            request_id,
            b"\r\nConnection: close\r\n\r\n" if close else b"\r\n\r\n",
            b"%b%b%b" % (template.before, request_id, template.after) if body else b"",
        )
    )


def bare(status: int, request_id: bytes, *, headers: bytes = b"", close: bool = False) -> bytes:
    """Make an error response without content. Raises KeyError for an unknown status."""
    return _without_content(_STATUSES[status], headers, request_id, close=close)


def options(request_id: bytes, *, close: bool = False) -> bytes:
    """Make a response to OPTIONS that lists the served methods (RFC 9110 section 9.3.7)."""
    return _without_content(b"200 OK", ALLOW, request_id, close=close)


def redirect(request_id: bytes, *, headers: bytes, close: bool = False) -> bytes:
    """Make a 302 response without content; `headers` has the Location line."""
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
