"""Finds spellings of a restricted path that another, looser rule would decide about.

Many applications ignore the case of a path or its final slash: Express serves `/ADMIN` and
`/admin/x/` with the handlers of `/admin` and `/admin/x`. Owns what counts as such a neighbour.
It only describes; the table decides as it is written.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final

from sidecar.auth.route_rule import Access, RouteRule, path_of
from sidecar.auth.routes import Route, RouteTable
from sidecar.auth.strictness import admits_no_more
from sidecar.errors import ConfigWarning

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Tried where no rule names a method or a host, beside those that some rule names
_ANY_METHOD: Final = "GET"
_ANY_HOST: Final = "host.invalid"


def neighbours(rules: Sequence[RouteRule]) -> list[ConfigWarning]:
    """Return a warning for each rule whose path has a spelling that a looser route gets.

    A rule that says "sensitive" or "strict" itself gets none, because its author has decided.
    Raises ConfigError if the rules are wrong.
    """
    table = RouteTable(rules)
    methods = dict.fromkeys((_ANY_METHOD, *(name for rule in rules for name in rule.methods)))
    hosts = dict.fromkeys((_ANY_HOST, *(name for rule in rules for name in rule.hosts)))
    found = []
    for rule, route in zip(rules, table.routes, strict=True):
        if rule.access != Access.REQUIRED:
            continue
        cases = list(product(rule.methods or methods, rule.hosts or hosts))
        for key, way_out, spellings in _unsaid(rule):
            looser = _first_looser(table, route, cases, spellings)
            if looser is not None:
                found.append(
                    ConfigWarning(
                        f"route {rule.path}",
                        f'"{looser[1]}" belongs to route {looser[0].name}, which requires less',
                        f'set {key} = "{way_out[0]}" if the application serves both alike, '
                        f'otherwise "{way_out[1]}"',
                    )
                )
    return found


def _unsaid(rule: RouteRule) -> Iterator[tuple[str, tuple[str, str], list[tuple[str, str]]]]:
    """Yield each key that a rule leaves open, its values, and pairs of a path and a neighbour."""
    below = rule.path.endswith("/*")
    path = path_of(rule)
    if not rule.paths_case:
        pairs = [
            (path + rest, other + rest)
            for other in (path.upper(), path.title(), path.lower(), path.swapcase())
            for rest in (("", "/x") if below else ("",))
            if other != path
        ]
        yield "paths_case", ("insensitive", "sensitive"), pairs
    if not rule.trailing_slash and not below and path != "/":
        other = path.removesuffix("/") if path.endswith("/") else path + "/"
        yield "trailing_slash", ("ignore", "strict"), [(path, other)]


def _first_looser(
    table: RouteTable,
    route: Route,
    cases: Sequence[tuple[str, str]],
    spellings: Sequence[tuple[str, str]],
) -> tuple[Route, str] | None:
    """Return the first looser route that gets a neighbour, and that neighbour."""
    for (path, other), (method, host) in product(spellings, cases):
        request = method.upper().encode(), host.encode()
        if table.match(*request, path) is route:  # otherwise an earlier rule decides about it
            found = table.match(*request, other)
            if not admits_no_more(found, route):
                return found, other
    return None
