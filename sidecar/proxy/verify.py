"""The decision as a subrequest, at `/auth/verify/<dialect>` unless configured otherwise.

Owns what they differ in: the one place from which the original request is read, and the form of a
denial. Success is 200 for each of them, whatever the method and whatever follows the dialect.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 (looked up by a compiled dataclass)
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from sidecar.auth import method_override, preflight
from sidecar.auth.decision import Deny
from sidecar.auth.reason import Reason
from sidecar.errors import PeerError
from sidecar.wire.headers import is_method
from sidecar.wire.target import TargetParser, is_host, read_escaped_target

if TYPE_CHECKING:
    from sidecar.auth.decision import Allow
    from sidecar.auth.routes import Route, RouteTable
    from sidecar.wire.forwarded import Forwarding
    from sidecar.wire.head import RequestHead

_ALLOWED: Final = b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\n"
_NO_CONTENT: Final = b"Content-Length: 0\r\nX-Request-Id: "
# The identity headers have it only while degraded, but no client may send it at any time.
_NOT_DEGRADED: Final = b"X-Auth-Degraded: \r\n"
_PATHS: Final = TargetParser()


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one proxy asks, and how it reads the answer.

    `uri` and `method` name the headers that hold the original request, beside X-Forwarded-Host.
    With an empty `uri` the subrequest is the original request with a prefix before its path.
    """

    name: str
    uri: bytes = b"x-forwarded-uri"
    method: bytes = b"x-forwarded-method"
    # The method of a request whose header is missing; empty: such a request is refused.
    default_method: bytes = b""
    own_host: bool = False  # Host is the original one where X-Forwarded-Host is missing
    # The status that this proxy understands, for each that it does not.
    statuses: Mapping[int, int] = field(default_factory=dict)
    redirects: bool = True  # it passes a 302 on; otherwise the 401 carries the Location
    # It never reads the content of a denial, and closes the connection to skip it.
    skips_content: bool = False
    absolute: bool = False  # it completes a relative Location with the sidecar's address
    prefix: str = ""  # the path at which it asks, or below which; `VerifyEndpoint` sets it

    def __repr__(self) -> str:
        return f"<Dialect {self.name}>"


# `auth_request` turns everything but 2xx, 401 and 403 into 500. The original method is known only
# if the operator configures its header.
NGINX: Final = Dialect(
    "nginx",
    uri=b"x-original-uri",
    method=b"x-original-method",
    default_method=b"GET",
    own_host=True,
    statuses={400: 401, 503: 403},
    redirects=False,
    skips_content=True,
)
TRAEFIK: Final = Dialect("traefik", absolute=True)
CADDY: Final = Dialect("caddy")
# With `failure_mode_allow` a 5xx is a failure, which lets every request in.
ENVOY: Final = Dialect("envoy", uri=b"", method=b"", statuses={503: 403})
HAPROXY: Final = Dialect("haproxy")

DIALECTS: Final = (NGINX, TRAEFIK, CADDY, ENVOY, HAPROXY)


class VerifyEndpoint:
    """The paths at which proxies ask: `path`, alone or with the name of a dialect behind it."""

    __slots__ = ("_below_envoy", "_by_name", "_by_path", "_path", "_written", "dialects")

    def __init__(self, path: str) -> None:
        self._path = path
        self._written = path.encode("ascii")
        self.dialects = tuple(replace(each, prefix=f"{path}/{each.name}") for each in DIALECTS)
        self._by_name = {each.name: each for each in self.dialects}
        self._by_name[""] = self._by_name[NGINX.name]
        self._below_envoy = self._by_name[ENVOY.name].prefix + "/"
        # The paths without anything behind them, which need no splitting
        self._by_path = {each.prefix: each for each in self.dialects}
        self._by_path[path] = self._by_name[""]

    def __repr__(self) -> str:
        return f"<VerifyEndpoint {self._path}>"

    def covers(self, path: str) -> bool:
        """Whether a decoded path is that of a subrequest."""
        return path.startswith(self._path) and path[len(self._path) :][:1] in {"", "/"}

    def find_dialect(self, head: RequestHead) -> Dialect | None:
        """The dialect that a path here names (nginx's if it names none); None if unknown.

        An escaped path gives None as well: proxies keep their clients away from this one, and some
        of them compare it without unescaping.
        """
        if not head.target.startswith(self._written):
            return None
        path = head.path
        found = self._by_path.get(path)
        return found or self._by_name.get(path[len(self._path) + 1 :].partition("/")[0])

    def passes_escapes(self, routes: RouteTable, head: RequestHead, path: str) -> bool:
        """Whether the route of this request accepts the ambiguous escapes in its path.

        Where the original request follows a prefix, as with Envoy, its route decides; that of a
        preflight is the one by which it passes.
        """
        route = routes.match(head.method, head.host, path)
        if route.target == "verify" and path.startswith(self._below_envoy):
            return _passes_escapes(routes, head, path[len(self._below_envoy) - 1 :])
        return route.passes_escapes or preflight.find_route(routes, head, path) is not None


def read_subject(
    dialect: Dialect, head: RequestHead, routes: RouteTable, forwarding: Forwarding
) -> tuple[Route, RequestHead | None] | Deny:
    """The original request and its route, read from the one place where this proxy puts them.

    Only a trusted peer is believed. Without an original request (None) the default route applies:
    the question is only whether the credentials are good. A preflight passes only if it carries no
    credentials, because they cannot be removed from it here. Nor can headers that override the
    method: they remain in the original request if it is unclear which method is meant.
    """
    said = head.forwarded
    if dialect.uri:
        if said is None or (dialect.uri not in said and dialect.method not in said):
            return routes.default, None
    elif len(head.path) <= len(dialect.prefix):
        return routes.default, None
    if not forwarding.trusted:
        return Deny(Reason.PROXY_UNTRUSTED, None)
    original = head.copy()
    if dialect.uri:
        readable = _read_headers(original, dialect, said or {}, routes)
    else:
        readable = _read_below(original, dialect.prefix)
    if not readable:
        return Deny(Reason.TARGET_MALFORMED, None)
    if head.websocket_key and head.cookie is not None and head.upgrade is None:
        # Most proxies remove Upgrade from the subrequest. If that went unnoticed, any page could
        # open a WebSocket with its visitor's cookie (RFC 6455 section 4.1).
        original.upgrade = b"websocket"
    if original.method == b"OPTIONS":
        passing = _find_preflight_route(routes, original, original.path)
        if passing is not None:
            return passing, original
    route = routes.match(original.method, original.host, original.path)
    if route.target != "upstream":
        # Behind another proxy, paths such as that of the sign-in page belong to the application.
        route = routes.default
    if original.overrides:
        return _override_method(original, route, routes)
    return route, original


def _find_preflight_route(routes: RouteTable, original: RequestHead, path: str) -> Route | None:
    """Return the route by which a preflight passes, or None."""
    bare = original.authorization is None and original.cookie is None
    return preflight.find_route(routes, original, path) if bare else None


def _passes_escapes(routes: RouteTable, original: RequestHead, path: str) -> bool:
    """Whether the route that decides about the original request accepts ambiguous escapes."""
    return (
        routes.match(original.method, original.host, path).passes_escapes
        or _find_preflight_route(routes, original, path) is not None
    )


def _override_method(
    original: RequestHead, route: Route, routes: RouteTable
) -> tuple[Route, RequestHead]:
    """Apply a header that overrides the method, if it is clear which method is meant."""
    method = method_override.method_of(original, route.method_override)
    if method is None:
        return route, original
    if method != original.method:
        route = routes.match(method, original.host, original.path)
    return route, method_override.decided_on(original, method)


def _read_headers(
    original: RequestHead, dialect: Dialect, said: Mapping[bytes, bytes], routes: RouteTable
) -> bool:
    """Set method, target and host from the proxy's headers; False if any is unclear."""
    original.method = said.get(dialect.method, dialect.default_method)
    original.target = said.get(dialect.uri, b"")
    host = said.get(b"x-forwarded-host", original.host if dialect.own_host else b"")
    if host != original.host or not host:
        if not is_host(host):
            return False
        original.host = host
    if original.method != b"GET" and not is_method(original.method):
        return False
    if original.target[:1] != b"/":
        return False
    try:
        original.path = _PATHS.parse(original.target)
    except PeerError:
        path = read_escaped_target(original.target)
        if path is None or not _passes_escapes(routes, original, path):
            return False
        original.path = path
    return True


def _read_below(original: RequestHead, prefix: str) -> bool:
    """Remove the prefix from the target; False if it is escaped. Method and host stay."""
    if not original.target.startswith(prefix.encode()):
        return False
    original.target = original.target[len(prefix) :]
    original.path = original.path[len(prefix) :]
    return True


def allowed(allow: Allow, request_id: bytes, also: bytes = b"", *, close: bool) -> bytes:
    """200 with every identity header, empty ones included, so that no stale value survives.

    `also` are further header lines, each with its CRLF.
    """
    end = b"\r\nConnection: close\r\n\r\n" if close else b"\r\n\r\n"
    degraded = b"" if allow.degraded else _NOT_DEGRADED
    return b"".join((_ALLOWED, allow.identity, degraded, also, _NO_CONTENT, request_id, end))
