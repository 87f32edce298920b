"""One rule of the route table as it is configured, and what can be wrong with it.

Knows no requests; `auth.routes` compiles the rules and finds the one that applies.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import unquote

from sidecar.auth.credentials import Accepts
from sidecar.claim_path import ClaimPath
from sidecar.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sidecar.auth.claims import Scalar

Target = Literal["upstream", "api", "verify"]

DEFAULT_ROUTE: Final = "default"

# The characters of a scope (RFC 6749 section 3.3). A challenge can quote them without escapes.
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")


class Access(StrEnum):
    """Who may use a route: everyone, everyone with credentials checked if sent, or users only."""

    PUBLIC = "public"
    OPTIONAL = "optional"
    REQUIRED = "required"


class Outage(StrEnum):
    """Which requests to trust while sessions cannot be looked up; see `sessions.outage`."""

    SIGNATURE = "signature"
    LOCAL = "local"
    STALE = "stale"
    STRICT = "strict"


class Forwards(StrEnum):
    """Which credentials the application gets: the bearer token, and the session cookie."""

    NONE = "none"
    TOKEN = "token"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRule:
    """One rule as configured: path "/x", prefix "/x/*" (also matches "/x"), or "/*".

    Empty `methods` or `hosts` match any; GET also matches HEAD. `claims` maps the path of a
    claim (`ClaimPath`) to its accepted values.
    """

    path: str
    access: Access = Access.REQUIRED
    name: str = ""  # empty: derived from the path
    methods: Sequence[str] = ()
    hosts: Sequence[str] = ()  # without a port
    roles: Sequence[str] = ()  # any of them
    scopes: Sequence[str] = ()  # all of them
    claims: Mapping[str, Sequence[Scalar]] = field(default_factory=dict)
    upgrades: Sequence[str] = ("websocket",)
    target: Target = "upstream"
    outage: Outage | None = None  # None: the global mode
    ends_live: bool = True  # WebSockets and streams end with their session
    preflight: bool = False  # CORS preflights of such requests pass without a token
    method_override: str = ""  # the header by which a POST may ask for another method; empty: none
    paths_case: Literal["", "sensitive", "insensitive"] = ""  # empty: sensitive, perhaps unawares
    trailing_slash: Literal["", "strict", "ignore"] = ""  # of an exact path; empty as above
    forwards: Forwards | None = None  # None: tokens, and nothing on a public route
    credentials: Accepts = Accepts.ANY
    passes_escapes: bool = False  # accepts paths that `wire.escaped_path` reads


def path_of(rule: RouteRule) -> str:
    """Return the decoded path or prefix of a rule; empty for "/*"."""
    return unquote(rule.path.removesuffix("/*"))


def find_problems(rules: Sequence[RouteRule]) -> Iterator[Problem]:
    """Yield the problems of each rule, and names given twice; a rule is identified by its path."""
    named: set[str] = set()
    for rule in rules:
        where = f"route {rule.path}"
        for text in _check(rule):
            yield Problem(where, text)
        if rule.name in named:
            yield Problem(where, f'expected a unique name; "{rule.name}" is taken')
        named |= {rule.name} - {""}


def _check(rule: RouteRule) -> list[str]:
    """Return the messages about one rule's problems."""
    found = []
    written = rule.path.removesuffix("/*")
    path = path_of(rule)
    if not rule.path.startswith("/") or set(written) & set("*?#"):
        found.append(f'expected a path such as /x, /x/* or /*; got "{rule.path}"')
    elif path.count("/") != written.count("/") or "\ufffd" in path:
        found.append(f'expected escapes of UTF-8 text without "/"; got "{rule.path}"')
    elif "//" in path or rule.path.endswith("//*") or {".", ".."} & set(path.split("/")):
        found.append(f'expected a path without "//", "." and ".."; got "{rule.path}"')
    if rule.access != Access.REQUIRED and (rule.roles or rule.scopes or rule.claims):
        found.append("expected access required because roles, scopes or claims are given")
    if rule.passes_escapes and (rule.method_override or not rule.path.endswith("/*")):
        found.append(
            'expected a prefix such as /x/* and no method_override for path_escapes "pass"'
        )
    found += [
        f'expected scopes as in RFC 6749 section 3.3; got "{scope}"'
        for scope in rule.scopes
        if not _SCOPE.fullmatch(scope)
    ]
    for claim, values in rule.claims.items():
        if not values:
            found.append(f'expected a value for claim "{claim}"')
        try:
            ClaimPath(claim)
        except ValueError as fault:
            found.append(f'{fault}; got "{claim}"')
    if rule.name == DEFAULT_ROUTE:
        found.append(f'expected a name other than "{DEFAULT_ROUTE}", the name of the last route')
    return found
