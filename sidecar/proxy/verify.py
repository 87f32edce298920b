"""The decision as a subrequest: `/auth/verify/<dialect>`, as five proxies ask it and take it.

Owns what they differ in: the one place where the original request is read from, and the form of a
denial. Success is 200 for all of them, whatever the method and whatever follows the dialect's name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from sidecar.auth import preflight
from sidecar.auth.gate import Deny
from sidecar.auth.reason import Reason
from sidecar.errors import PeerError
from sidecar.wire.head import RequestHead
from sidecar.wire.target import TargetParser, is_host

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.auth.policy import Route, RouteTable
    from sidecar.wire.forwarded import Forwarding

PREFIX: Final = "/auth/verify"

_ALLOWED: Final = b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\n"
_NO_CONTENT: Final = b"Content-Length: 0\r\nX-Request-Id: "
# Not among the identity headers while nothing is degraded, but a client may not send it either.
_DEGRADED: Final = b"X-Auth-Degraded: "
_NOT_DEGRADED: Final = _DEGRADED + b"\r\n"
_PATHS: Final = TargetParser()


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one proxy asks, and what it makes of an answer.

    `uri` and `method` are the headers that hold the original request, beside X-Forwarded-Host; with
    an empty `uri` the subrequest is the original one but for the prefix of its path.
    """

    name: str
    uri: bytes = b"x-forwarded-uri"
    method: bytes = b"x-forwarded-method"
    # What a request is taken for whose method or host is not said; empty: it is refused.
    default_method: bytes = b""
    own_host: bool = False
    # A denial's own status to the one that this proxy understands.
    statuses: Mapping[int, int] = field(default_factory=dict)
    redirects: bool = True  # it passes a 302 on; else 401 brings the Location
    absolute: bool = False  # it completes a relative Location with our own address

    def __repr__(self) -> str:
        return f"<Dialect {self.name}>"

    @property
    def prefix(self) -> str:
        """The path that it asks for, and below which it may ask."""
        return f"{PREFIX}/{self.name}"


# `auth_request` makes 500 of anything but 2xx, 401 and 403. What the original method is, only the
# operator's configuration says.
NGINX: Final = Dialect(
    "nginx",
    uri=b"x-original-uri",
    method=b"x-original-method",
    default_method=b"GET",
    own_host=True,
    statuses={400: 401, 503: 403},
    redirects=False,
)
TRAEFIK: Final = Dialect("traefik", absolute=True)
CADDY: Final = Dialect("caddy")
# To `failure_mode_allow` a 5xx is a failure, and would let everybody in.
ENVOY: Final = Dialect("envoy", uri=b"", method=b"", statuses={503: 403})
HAPROXY: Final = Dialect("haproxy")

DIALECTS: Final = (NGINX, TRAEFIK, CADDY, ENVOY, HAPROXY)
_BY_NAME: Final = {"": NGINX, **{dialect.name: dialect for dialect in DIALECTS}}
# The paths that are asked for without anything behind them.
_BY_PATH: Final = {PREFIX: NGINX, **{dialect.prefix: dialect for dialect in DIALECTS}}
_PREFIX: Final = PREFIX.encode()


def find_dialect(head: RequestHead) -> Dialect | None:
    """The dialect that a path below `PREFIX` names, without a name nginx's; None for another.

    None, too, where the prefix is escaped: a proxy keeps its clients away from it by what they
    send, and some compare that as it is.
    """
    if not head.target.startswith(_PREFIX):
        return None
    path = head.path
    return _BY_PATH.get(path) or _BY_NAME.get(path[len(PREFIX) + 1 :].partition("/")[0])


def read_subject(
    dialect: Dialect, head: RequestHead, routes: RouteTable, forwarding: Forwarding
) -> tuple[Route, RequestHead | None] | Deny:
    """The original request and its route, from the one place where this proxy puts it.

    Only a trusted peer is believed. Without an original request (None) the question is whether the
    credentials are good: the default route. A preflight passes only if it has none, for they could
    not be taken from it here.
    """
    said = head.forwarded
    if dialect.uri:
        if said is None or (dialect.uri not in said and dialect.method not in said):
            return routes.default, None
    elif len(head.path) <= len(dialect.prefix):
        return routes.default, None
    if not forwarding.trusted:
        return Deny(Reason.PROXY_UNTRUSTED, None)
    original = RequestHead()
    original.__dict__.update(head.__dict__)
    if dialect.uri:
        readable = _read_headers(original, dialect, said or {})
    else:
        readable = _read_below(original, dialect.prefix)
    if not readable:
        return Deny(Reason.TARGET_MALFORMED, None)
    if head.upgrade is None and head.cookie is not None and _opens_websocket(head):
        original.upgrade = b"websocket"
    if original.method == b"OPTIONS" and original.authorization is None and original.cookie is None:
        passing = preflight.find_route(routes, original)
        if passing is not None:
            return passing, original
    route = routes.match(original.method, original.host, original.path)
    if route.target != "upstream":
        # Behind another proxy the paths that are ours here are the application's, like any other.
        route = routes.default
    return route, original


def _read_headers(original: RequestHead, dialect: Dialect, said: Mapping[bytes, bytes]) -> bool:
    """Method, target and host from what the proxy says; whether they can be read for certain."""
    original.method = said.get(dialect.method, dialect.default_method)
    original.target = said.get(dialect.uri, b"")
    host = said.get(b"x-forwarded-host")
    if host is not None:
        original.host = host
    elif not dialect.own_host:
        return False
    if not original.method.isalpha() or not is_host(original.host) or original.target[:1] != b"/":
        return False
    try:
        original.path = _PATHS.parse(original.target)
    except PeerError:
        return False
    return True


def _read_below(original: RequestHead, prefix: str) -> bool:
    """The target without its prefix, which must not be escaped; method and host are as they are."""
    if not original.target.startswith(prefix.encode()):
        return False
    original.target = original.target[len(prefix) :]
    original.path = original.path[len(prefix) :]
    return True


def _opens_websocket(head: RequestHead) -> bool:
    """Whether an upgrade was asked for by a header that proxies pass on (RFC 6455 section 4.1).

    Most remove Upgrade from the subrequest; without it any page could open a WebSocket with the
    cookie of its visitor.
    """
    return b"sec-websocket-key" in head.lines.lower()


def allowed(identity: bytes, request_id: bytes, *, close: bool) -> bytes:
    """200 with every identity header, also the empty ones, so that no stale value can survive."""
    end = b"\r\nConnection: close\r\n\r\n" if close else b"\r\n\r\n"
    degraded = b"" if _DEGRADED in identity else _NOT_DEGRADED
    return b"".join((_ALLOWED, identity, degraded, _NO_CONTENT, request_id, end))


def login_location(login_url: bytes, target: bytes, origin: bytes = b"") -> bytes:
    """The Location line that leads to the login page and, after it, back.

    Built here and escaped, for nginx' `$request_uri` is not: a redirect made of that breaks on
    query strings. `origin` completes a login page that is a path.
    """
    mark = b"&" if b"?" in login_url else b"?"
    start = origin + login_url if login_url[:1] == b"/" else login_url
    return b"Location: %b%brd=%b\r\n" % (start, mark, quote(target, safe="").encode())


def origin_for(dialect: Dialect | None, asked: RequestHead, forwarding: Forwarding) -> bytes:
    """What a Location must begin with for this proxy to leave it as it is: mostly nothing."""
    if dialect is None or not dialect.absolute:
        return b""
    return b"%b://%b" % (forwarding.scheme(asked), asked.host)


def is_navigation(head: RequestHead) -> bool:
    """Whether a person may be sent to another page, and back to this one."""
    return head.method in {b"GET", b"HEAD"} and shows_page(head)


def shows_page(head: RequestHead) -> bool:
    """Whether a person will see the answer as a page: a browser says so, others ask for HTML."""
    accepts = False
    for line in head.lines.splitlines():
        name, _, value = line.partition(b":")
        name = name.lower()
        if name == b"sec-fetch-mode":
            return value.strip() == b"navigate"
        if name == b"accept":
            accepts = b"text/html" in value.lower()
    return accepts
