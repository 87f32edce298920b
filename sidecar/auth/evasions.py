"""Finds rules that a path with escapes could evade, if the application reads the path otherwise.

The path `/api/admin%2Fx` belongs to a route for `/api/*` that accepts escapes. Some applications
serve it as `/api/admin/x`, about which another rule may decide. Owns which paths are tried: all
that such a path can become stays below the route's prefix, because dot segments are refused.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final

from sidecar.auth.route_rule import path_of
from sidecar.auth.routes import bare_host
from sidecar.auth.strictness import allows_no_more
from sidecar.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sidecar.auth.route_rule import RouteRule
    from sidecar.auth.routes import RouteTable

# A method and a host that no rule names
_OTHER_METHOD: Final = b"OTHER"
_OTHER_HOST: Final = b"host.invalid"


def find_evasions(rules: Sequence[RouteRule], table: RouteTable) -> Iterator[Problem]:
    """Yield a problem for each pair of a route that passes escapes and a stricter one below it.

    `table` was made from these rules, and perhaps others before them.
    """
    routes = table.routes[len(table.routes) - len(rules) :]
    fresh = _fresh_name(rules)
    for rule, route in zip(rules, routes, strict=True):
        if not rule.passes_escapes:
            continue
        found: dict[str, str] = {}
        for other in rules:
            spellings = list(_spellings(rule, other, fresh))
            for (method, host), (received, resolved) in product(
                _requests(rules, rule, other) if spellings else (), spellings
            ):
                evaded = table.match(method, host, resolved)
                if (
                    evaded.name not in found
                    and table.match(method, host, received) is route
                    and not allows_no_more(route, evaded)
                ):
                    found[evaded.name] = received
        for name, received in found.items():
            yield Problem(
                f"route {rule.path}",
                f'expected path_escapes = "reject" on route {route.name}, or no stricter route '
                f'below it: an application that decodes "{received}" serves what route {name} '
                f"protects",
            )


def _requests(rules: Sequence[RouteRule], *both: RouteRule) -> list[tuple[bytes, bytes]]:
    """Return a method and a host for each kind of request that both of these rules may match."""
    methods = {_OTHER_METHOD, b"GET"}.union(*map(_methods_of, rules))
    hosts = {_OTHER_HOST}.union(*map(_hosts_of, rules))
    for rule in both:
        methods &= _methods_of(rule) or methods
        hosts &= _hosts_of(rule) or hosts
    return list(product(sorted(methods), sorted(hosts)))


def _methods_of(rule: RouteRule) -> set[bytes]:
    named = {name.upper().encode() for name in rule.methods}
    return named | {b"HEAD"} if b"GET" in named else named


def _hosts_of(rule: RouteRule) -> set[bytes]:
    return {bare_host(name.encode()) for name in rule.hosts}


def _spellings(rule: RouteRule, other: RouteRule, fresh: str) -> Iterator[tuple[str, str]]:
    """Yield paths of `other` below `rule`: with escapes, as routes see them, and resolved."""
    prefix, segments = path_of(rule), path_of(other).split("/")
    depth = len(prefix.split("/"))
    start, below = "/".join(segments[:depth]), "".join(f"/{each}" for each in segments[depth:])
    if start.casefold() != prefix.casefold():
        return
    # The prefix in the spelling of either rule, because one of them may ignore case
    for written, end in product(dict.fromkeys((prefix, start)), (f"/{fresh}", "/", "")):
        if below + end:
            rest = (below + end)[1:]
            hidden = rest.replace("/", "%2F")
            if hidden == rest:
                hidden += f";{fresh}"
            yield f"{written}/{hidden}", f"{written}/{rest}"


def _fresh_name(rules: Sequence[RouteRule]) -> str:
    """Return a segment that occurs in no rule's path."""
    name = "x"
    while any(name in path_of(rule).casefold().split("/") for rule in rules):
        name += "x"
    return name
