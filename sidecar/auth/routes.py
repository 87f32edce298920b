"""The route table: finds the rule that applies to a request, and what that rule requires.

The table is compiled at start; at request time it is only searched. A request that no rule matches
gets the last route, whose access is `required`. Knows no credentials: the gate decides about those.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from sidecar.auth.claims import Scalar  # noqa: TC001 (looked up by a compiled dataclass)
from sidecar.auth.credentials import Accepts
from sidecar.auth.route_names import route_names
from sidecar.auth.route_rule import (
    DEFAULT_ROUTE,
    Access,
    Forwards,
    Outage,
    RouteRule,
    Target,
    find_problems,
    path_of,
)
from sidecar.auth.route_shapes import Shape, make_shape
from sidecar.claim_path import ClaimPath
from sidecar.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a caller must have: any of the roles, all of the scopes, and every one of the claims."""

    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    claims: tuple[tuple[ClaimPath, tuple[Scalar, ...]], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.roles or self.scopes or self.claims)


@dataclass(frozen=True, slots=True)
class Route:
    """A compiled rule. Its last flags are precomputed, because the gate reads them often.

    `special` routes are public, or take one kind of credentials only.
    """

    name: str
    access: Access = Access.REQUIRED
    requirement: Requirement = Requirement()
    upgrades: frozenset[bytes] = frozenset((b"websocket",))
    target: Target = "upstream"
    outage: Outage = Outage.LOCAL
    ends_live: bool = True
    preflight: Route | None = None  # the route of the same name for preflights that pass
    method_override: bytes = b""  # in lower case
    unasked: bool = False  # this is the route of such preflights
    hides_cookie: bool = True  # from the application
    hides_token: bool = False
    credentials: Accepts = Accepts.ANY
    passes_escapes: bool = False
    special: bool = field(init=False)
    public: bool = field(init=False)
    optional: bool = field(init=False)
    restricted: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "public", self.access is Access.PUBLIC)
        special = self.public or self.credentials is not Accepts.ANY
        object.__setattr__(self, "special", special)
        object.__setattr__(self, "optional", self.access is Access.OPTIONAL)
        object.__setattr__(self, "restricted", bool(self.requirement))


class _Pattern(NamedTuple):
    """What a rule matches: a prefix ends in "/", and None matches any. A tuple unpacks fast."""

    prefix: str
    methods: frozenset[bytes] | None
    hosts: frozenset[bytes] | None
    route: Route


class RouteTable:
    """Finds a request's route: the first rule that matches its path, method and host.

    Raises ConfigError with every problem of the rules. A look-up takes (measured) 0.1 µs for a path
    that a rule names exactly, 0.2 µs for a path that no rule matches, and 0.3 µs for a path below a
    prefix, plus 0.1 µs for each prefix before that one. If a rule ignores case or a final slash,
    a path that no rule names exactly is compared with one rule after the other instead.
    """

    __slots__ = ("_below", "_exact", "_hosts", "_prefixes", "_shaped", "default", "routes")

    def __init__(self, rules: Sequence[RouteRule] = (), *, outage: Outage = Outage.LOCAL) -> None:
        problems = list(find_problems(rules))
        if problems:
            raise ConfigError(problems)
        names = route_names([(rule.name, rule.path) for rule in rules], taken=DEFAULT_ROUTE)
        self.routes = tuple(
            _compile(rule, name, outage) for rule, name in zip(rules, names, strict=True)
        )
        self.default = Route(DEFAULT_ROUTE, outage=outage)
        paths = [path_of(rule) for rule in rules]
        shapes = [_shape(rule) for rule in rules]
        patterns = [_pattern(rule, route) for rule, route in zip(rules, self.routes, strict=True)]
        self._below = tuple(pattern for pattern in patterns if pattern.prefix)
        self._prefixes = tuple(pattern.prefix for pattern in self._below)
        self._hosts = any(pattern.hosts for pattern in patterns)
        # Empty unless a rule folds paths. Then no path has one of `_prefixes`, so that `match`
        # gets here without a test of its own on the way of other tables.
        self._shaped: tuple[tuple[Shape, _Pattern], ...] = ()
        if any(shape.folds for shape in shapes):
            self._prefixes = ()
            self._shaped = tuple(
                (shape, pattern._replace(prefix=""))
                for shape, pattern in zip(shapes, patterns, strict=True)
            )
        self._exact: dict[str, Route | tuple[_Pattern, ...]] = {}
        for exact in filter(None, paths):
            found = tuple(
                pattern._replace(prefix="")
                for shape, pattern in zip(shapes, patterns, strict=True)
                if shape.matches(exact)
            )
            alone = found[0].methods is None and found[0].hosts is None
            self._exact[exact] = found[0].route if alone else found

    def __repr__(self) -> str:
        return f"<RouteTable {len(self.routes)} routes>"

    @property
    def all(self) -> tuple[Route, ...]:
        """Every route, in the order in which the routes are tried."""
        return (*self.routes, self.default)

    def match(self, method: bytes, host: bytes, path: str) -> Route:
        """Return the route of a request, by method, authority and normalised, decoded path."""
        found = self._exact.get(path)
        if found is None:
            if not path.startswith(self._prefixes):
                if not self._shaped:
                    return self.default
                found = tuple(pattern for shape, pattern in self._shaped if shape.matches(path))
            else:
                found = self._below
        elif isinstance(found, Route):
            return found
        if self._hosts:
            host = bare_host(host)
        for prefix, methods, hosts, route in found:
            if (
                path.startswith(prefix)
                and (methods is None or method in methods)
                and (hosts is None or host in hosts)
            ):
                return route
        return self.default


def bare_host(authority: bytes) -> bytes:
    """Return the host of an authority as rules have it: lower case, no port, no final dot."""
    host = authority.lower()
    if host[-1:] != b"]":  # an IPv6 address without a port
        name, colon, _ = host.rpartition(b":")
        if colon:
            host = name
    return host.rstrip(b".")


def _shape(rule: RouteRule) -> Shape:
    """Return the paths that a rule matches."""
    return make_shape(
        path_of(rule),
        below=rule.path.endswith("/*"),
        any_case=rule.paths_case == "insensitive",
        any_slash=rule.trailing_slash == "ignore",
        restricts=rule.access == Access.REQUIRED,
    )


def _compile(rule: RouteRule, name: str, outage: Outage) -> Route:
    forwards = rule.forwards
    if forwards is None:
        forwards = Forwards.NONE if rule.access == Access.PUBLIC else Forwards.TOKEN
    passing = None
    if rule.preflight:
        passing = Route(name, Access.PUBLIC, upgrades=frozenset(), target=rule.target, unasked=True)
    return Route(
        name=name,
        access=Access(rule.access),
        requirement=Requirement(
            roles=frozenset(rule.roles),
            scopes=frozenset(rule.scopes),
            claims=tuple((ClaimPath(path), tuple(values)) for path, values in rule.claims.items()),
        ),
        upgrades=frozenset(upgrade.lower().encode() for upgrade in rule.upgrades),
        target=rule.target,
        outage=outage if rule.outage is None else rule.outage,
        ends_live=rule.ends_live,
        preflight=passing,
        method_override=rule.method_override.lower().encode(),
        hides_cookie=forwards is not Forwards.ALL,
        hides_token=forwards is Forwards.NONE,
        credentials=rule.credentials,
        passes_escapes=rule.passes_escapes,
    )


def _pattern(rule: RouteRule, route: Route) -> _Pattern:
    methods = {method.upper().encode() for method in rule.methods}
    if b"GET" in methods:
        methods.add(b"HEAD")  # applications answer HEAD with the GET handler, so its rule applies
    return _Pattern(
        prefix=path_of(rule) + "/" if rule.path.endswith("/*") else "",
        methods=frozenset(methods) or None,
        hosts=frozenset(bare_host(host.encode()) for host in rule.hosts) or None,
        route=route,
    )
