"""The decision as a subrequest: `/auth/verify`, as nginx's `auth_request` expects it.

Owns where the original request is read from, and the answer's form. 2xx allows, 401 and 403 deny,
and nginx makes 500 of everything else, so nothing else is ever answered here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from sidecar.auth.gate import Deny
from sidecar.auth.reason import Reason
from sidecar.errors import PeerError
from sidecar.wire.head import RequestHead
from sidecar.wire.target import Paths, is_host

if TYPE_CHECKING:
    from sidecar.auth.policy import Route, RouteTable
    from sidecar.wire.forwarded import Forwarding

# A subrequest's answer for a denial's own status.
STATUS: Final = {400: 401, 503: 403}

_ALLOWED: Final = b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\n"
_NO_CONTENT: Final = b"Content-Length: 0\r\nX-Request-Id: "
_PATHS: Final = Paths()
_URI: Final = b"x-original-uri"
_METHOD: Final = b"x-original-method"


def read_subject(
    head: RequestHead, routes: RouteTable, forwarding: Forwarding
) -> tuple[Route, RequestHead] | Deny:
    """The original request and its route, from the one place where nginx puts it.

    Only a trusted peer is believed. Without an original URI the question is whether the credentials
    are good: the default route.
    """
    said = head.forwarded or {}
    if _URI not in said and _METHOD not in said:
        return routes.default, head
    if not forwarding.trusted:
        return Deny(Reason.PROXY_UNTRUSTED, None)
    original = RequestHead()
    original.__dict__.update(head.__dict__)
    original.method = said.get(_METHOD, b"GET")
    original.target = said.get(_URI, b"")
    original.host = said.get(b"x-forwarded-host", head.host)
    if not original.method.isalpha() or not is_host(original.host) or original.target[:1] != b"/":
        return Deny(Reason.TARGET_MALFORMED, None)
    try:
        original.path = _PATHS.parse(original.target)
    except PeerError:
        return Deny(Reason.TARGET_MALFORMED, None)
    route = routes.match(original.method, original.host, original.path)
    if route.target != "upstream":
        # Behind another proxy the paths that are ours here are the application's, like any other.
        route = routes.default
    return route, original


def allowed(identity: bytes, request_id: bytes, *, close: bool) -> bytes:
    """200 with every identity header, also the empty ones, so that no stale value can survive."""
    end = b"\r\nConnection: close\r\n\r\n" if close else b"\r\n\r\n"
    return b"".join((_ALLOWED, identity, _NO_CONTENT, request_id, end))


def location(head: RequestHead, login_url: bytes, forwarding: Forwarding, status: int) -> bytes:
    """For a 401 about a known request, the ready Location of the login page; else nothing.

    `$request_uri` is not escaped by nginx, so a redirect built there breaks on query strings.
    """
    if status != 401 or not login_url or head.forwarded is None or not forwarding.trusted:
        return b""
    uri = head.forwarded.get(_URI, b"")
    return login_location(login_url, uri) if uri else b""


def login_location(login_url: bytes, target: bytes) -> bytes:
    """The Location line that leads to the login page and, after it, back."""
    mark = b"&" if b"?" in login_url else b"?"
    return b"Location: %b%brd=%b\r\n" % (login_url, mark, quote(target, safe="").encode())


def is_navigation(head: RequestHead) -> bool:
    """Whether a person waits for a page: a browser says so, others ask for HTML."""
    if head.method not in {b"GET", b"HEAD"}:
        return False
    accepts = False
    for line in head.lines.splitlines():
        name, _, value = line.partition(b":")
        name = name.lower()
        if name == b"sec-fetch-mode":
            return value.strip() == b"navigate"
        if name == b"accept":
            accepts = b"text/html" in value.lower()
    return accepts
