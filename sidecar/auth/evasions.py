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
    # Collected once: each pair of what may be hundreds of rules is compared.
    named = [(_methods_of(rule), _hosts_of(rule)) for rule in rules]
    methods = {_OTHER_METHOD, b"GET"}.union(*(each for each, _ in named))
    hosts = {_OTHER_HOST}.union(*(each for _, each in named))
    for rule, route, mine in zip(rules, routes, named, strict=True):
        if not rule.passes_escapes:
            continue
        found: dict[str, str] = {}
        for other, others in zip(rules, named, strict=True):
            spellings = list(_spellings(rule, other, fresh))
            if not spellings:
                continue
            requests = product(
                sorted(_common(methods, mine[0], others[0])),
                sorted(_common(hosts, mine[1], others[1])),
            )
            for (method, host), (received, resolved) in product(requests, spellings):
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


def _common(known: set[bytes], *named: set[bytes]) -> set[bytes]:
    """Return those methods or hosts that two rules both name; naming none means every one."""
    return known.intersection(*filter(None, named))


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
    # The prefix in the spelling of either rule, because one of them may ignore case. What is below
    # it in other spellings too, because an earlier rule may match only that of `other`.
    cases = (below, below.upper(), below.lower(), below.title(), below.swapcase())
    belows = dict.fromkeys(cases if other.paths_case == "insensitive" else (below,))
    ends = (f"/{fresh}", "/", "")
    for written, each, end in product(dict.fromkeys((prefix, start)), belows, ends):
        if each + end:
            rest = (each + end)[1:]
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
