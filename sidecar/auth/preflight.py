"""A browser's question before a request from another origin: the CORS preflight (Fetch standard).

It can carry no token, so a rule may let it pass without one. Owns what counts as a preflight, which
is as narrow as browsers make it, and that none takes credentials along. Knows no sessions.
"""

from __future__ import annotations

import re
from copy import copy
from typing import TYPE_CHECKING, Final

from sidecar.wire.head import Framing
from sidecar.wire.headers import fold, is_token, without

if TYPE_CHECKING:
    from sidecar.auth.routes import Route, RouteTable
    from sidecar.wire.head import RequestHead

_ORIGIN: Final = b"origin"
_METHOD: Final = b"access-control-request-method"
_TOLD: Final = frozenset((_ORIGIN, _METHOD))
# By these an application may take it for another method than the one decided on.
_OVERRIDES: Final = frozenset((b"x-http-method", b"x-http-method-override", b"x-method-override"))
# One serialized origin or "null" (Fetch, section 3.2): never the list that RFC 6454 allowed.
_ONE_ORIGIN: Final = re.compile(rb"null|[A-Za-z][A-Za-z0-9+.-]*://[A-Za-z0-9._~!$&'()*+;=:\[\]-]+")
_NEVER_SERVED: Final = frozenset((b"CONNECT", b"TRACE"))  # no request of theirs could follow
_CREDENTIALS: Final = frozenset((b"authorization", b"cookie"))


def find_route(routes: RouteTable, head: RequestHead) -> Route | None:
    """The route under which this request passes as a preflight; None where it does not.

    It is that of the request to come: the preflight of DELETE /x falls under the rule for DELETE.
    """
    method = announced_method(head)
    return None if method is None else routes.match(method, head.host, head.path).preflight


def announced_method(head: RequestHead) -> bytes | None:
    """The method of the request that a preflight is about; None if this is no preflight.

    It is none with a body, an upgrade, a header that names another method, or one of the two that
    make it one twice, in any spelling. Only what goes on to the application counts.
    """
    if head.method != b"OPTIONS" or head.framing is not Framing.NONE or head.upgrade is not None:
        return None
    told: dict[bytes, bytes] = {}
    for line in head.lines.split(b"\r\n"):
        name, _, value = line.partition(b":")
        folded = fold(name)
        if folded in _TOLD:
            if folded in told or name.lower() != folded:
                return None
            told[folded] = value.strip(b" \t")
        elif folded in _OVERRIDES:
            return None
    method = told.get(_METHOD, b"")
    if not is_token(method) or method in _NEVER_SERVED:
        return None
    return method if _ONE_ORIGIN.fullmatch(told.get(_ORIGIN, b"")) else None


def without_credentials(head: RequestHead) -> RequestHead:
    """The same request with none: a browser sends none, so whoever does is no browser."""
    bare = copy(head)  # the head itself may serve the next request
    bare.authorization = bare.cookie = bare.remembered = None
    bare.lines = b"".join(without(head.lines.splitlines(keepends=True), _CREDENTIALS))
    return bare
