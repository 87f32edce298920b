"""Recognises CORS preflights: a browser sends one before a cross-origin request (Fetch standard).

A preflight cannot carry a token, so a rule may let it pass without one. Owns the definition of a
preflight, as narrow as what browsers send, and removes any credentials. Knows no sessions.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from sidecar.wire.escaped_path import is_ambiguous
from sidecar.wire.head import Framing
from sidecar.wire.headers import fold, is_method, without

if TYPE_CHECKING:
    from sidecar.auth.routes import Route, RouteTable
    from sidecar.wire.head import RequestHead

_ORIGIN: Final = b"origin"
_METHOD: Final = b"access-control-request-method"
_HEADERS: Final = frozenset((_ORIGIN, _METHOD))
# One serialised origin or "null" (Fetch, section 3.2). RFC 6454 also allowed a list.
_ONE_ORIGIN: Final = re.compile(rb"null|[A-Za-z][A-Za-z0-9+.-]*://[A-Za-z0-9._~!$&'()*+;=:\[\]-]+")
_NEVER_SERVED: Final = frozenset((b"CONNECT", b"TRACE"))  # such a request is always refused
_CREDENTIALS: Final = frozenset((b"authorization", b"cookie"))


def find_route(routes: RouteTable, head: RequestHead, path: str) -> Route | None:
    """Return the route that lets this request, for this path, pass as a preflight, or None.

    The rule is that of the announced request: the preflight of DELETE /x uses the DELETE rule.
    """
    method = announced_method(head)
    if method is None:
        return None
    route = routes.match(method, head.host, path)
    # That the path was accepted for OPTIONS says nothing about the announced method.
    return route.preflight if route.passes_escapes or not is_ambiguous(path) else None


def announced_method(head: RequestHead) -> bytes | None:
    """Return the method that a preflight announces, or None if the request is not a preflight.

    A preflight has no body, no upgrade, and no header that overrides the method. Its two headers,
    Origin and Access-Control-Request-Method, appear once each, in any spelling. Only the header
    lines that are forwarded to the application count.
    """
    if head.method != b"OPTIONS" or head.framing is not Framing.NONE or head.upgrade is not None:
        return None
    if head.overrides:
        return None
    values: dict[bytes, bytes] = {}
    for line in head.lines.split(b"\r\n"):
        name, _, value = line.partition(b":")
        folded = fold(name)
        if folded in _HEADERS:
            if folded in values or name.lower() != folded:
                return None
            values[folded] = value.strip(b" \t")
    method = values.get(_METHOD, b"")
    if not is_method(method) or method in _NEVER_SERVED:
        return None
    return method if _ONE_ORIGIN.fullmatch(values.get(_ORIGIN, b"")) else None


def without_credentials(head: RequestHead) -> RequestHead:
    """Return the request without credentials. Browsers send preflights without any."""
    bare = head.copy()  # the parser may use the head again for the next request
    bare.authorization = bare.cookie = bare.remembered = None
    bare.lines = b"".join(without(head.lines.splitlines(keepends=True), _CREDENTIALS))
    return bare
