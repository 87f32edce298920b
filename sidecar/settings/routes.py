"""The `[[route]]` tables of the file: the kinds of their keys, and the relations between rules.

Checks that rules are well-formed and reachable; `auth.routes` matches requests against them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from sidecar.settings import kinds, net
from sidecar.settings.kinds import InvalidValue, ValueKind, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Scalar = str | int | float | bool
Access = Literal["public", "optional", "required"]

DEFAULT_NAME: Final = "default"
# Paths that the sidecar serves itself, on every host. The rules of the file do not apply to them.
DEFAULT_PREFIX: Final = "/auth"
OWN_PATHS: Final = frozenset({"/.well-known/jwks.json"})

_METHOD: Final = re.compile(r"[A-Z][A-Z0-9-]*")
_SCOPE: Final = kinds.matching(  # RFC 6749 section 3.3
    r"[\x21\x23-\x5b\x5d-\x7e]+", 'a scope: printable ASCII without spaces, " and \\'
)
_WORD: Final = kinds.matching(r"[^\s,]+", "a word without spaces and commas")
_PROTOCOL: Final = kinds.matching(kinds.TOKEN, "a protocol such as websocket")
Credentials = Literal["any", "bearer", "cookie"]
ForwardCredentials = Literal["none", "token", "all"]
_FORWARDED: Final = kinds.choice("none", "token", "all")
_CLAIM: Final = kinds.claim()
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


_SEGMENT: Final = re.compile(r"[A-Za-z0-9._~-]+")  # needs no escapes: RFC 3986 section 2.3


def own_prefix() -> ValueKind:
    """The path below which the sidecar's own endpoints are: normalised, and without escapes."""

    def read(raw: object) -> str:
        if not isinstance(raw, str) or raw[:1] != "/":
            raise InvalidValue
        segments = raw[1:].split("/")
        if {".", ".."} & set(segments) or not all(map(_SEGMENT.fullmatch, segments)):
            raise InvalidValue
        for path in OWN_PATHS:
            if path == raw or path.startswith(raw + "/"):
                raise InvalidValue(f"expected a path other than those of {path}; got {shown(raw)}")
        return raw

    return ValueKind(
        f"a path such as {DEFAULT_PREFIX} or /_sign-in: letters, digits and . _ ~ - between "
        "slashes, and no slash at the end",
        read,
    )


def _path() -> ValueKind:
    def read(raw: object) -> str:
        if not isinstance(raw, str) or not raw.startswith("/"):
            raise InvalidValue
        literal = raw.removesuffix("*") if raw.endswith("/*") else raw
        segments = literal.split("/")
        if "*" in literal:
            raise InvalidValue(f'expected "*" only at the end, as in /x/*; got {shown(raw)}')
        if "%" in literal:
            raise InvalidValue(
                f"expected a decoded path: the character itself, not %XX; got {shown(raw)}"
            )
        if any(char in literal for char in "?#;\\") or not literal.isprintable():
            raise InvalidValue(f"expected a path alone, without ? # ; or \\; got {shown(raw)}")
        if "" in segments[1:-1] or "." in segments or ".." in segments:
            raise InvalidValue(f'expected a path without "//", "." and ".."; got {shown(raw)}')
        return raw

    return ValueKind("a path such as /x, a prefix such as /x/*, or /*", read)


def _method() -> ValueKind:
    def read(raw: object) -> str:
        if not isinstance(raw, str) or not _METHOD.fullmatch(raw):
            raise InvalidValue
        if raw == "CONNECT":
            raise InvalidValue(
                "expected a method other than CONNECT, which is refused on every route"
            )
        return raw

    return ValueKind("a method in upper case, such as GET", read)


def _host() -> ValueKind:
    def read(raw: object) -> str:
        bare = raw[1:-1] if isinstance(raw, str) and re.fullmatch(r"\[.*\]", raw) else raw
        if not isinstance(bare, str) or not net.is_host(bare):
            raise InvalidValue
        return net.bracketed(bare).lower().removesuffix(".")

    return ValueKind("a host name without a port", read)


def _upgrade() -> ValueKind:
    def read(raw: object) -> str:
        protocol = str(_PROTOCOL.read(raw)).lower()
        if protocol.startswith("h2"):
            raise InvalidValue(
                f"expected a protocol other than HTTP/2, which is never tunnelled; got {shown(raw)}"
            )
        return protocol

    return ValueKind(_PROTOCOL.expected, read)


def _label() -> ValueKind:
    def read(raw: object) -> str:
        if not isinstance(raw, str) or not _LABEL.fullmatch(raw):
            raise InvalidValue
        if raw == DEFAULT_NAME:
            raise InvalidValue(
                f"expected a name other than {raw}, which stands for requests without a rule"
            )
        return raw

    return ValueKind("at most 64 letters, digits and ._-", read)


def claim_values() -> ValueKind:
    """A table of claims, each with one or more accepted values."""

    def read(raw: object) -> dict[str, tuple[Scalar, ...]]:
        if not isinstance(raw, dict):
            raise InvalidValue
        return {
            str(_CLAIM.read(str(name))): _accepted(str(name), value) for name, value in raw.items()
        }

    def show(claims: dict[str, tuple[Scalar, ...]]) -> object:
        return {name: list(values) for name, values in claims.items()}

    return ValueKind('a table such as {tenant = "acme", level = [2, 3]}', read, show)


def _accepted(name: str, raw: object) -> tuple[Scalar, ...]:
    values = raw if isinstance(raw, list) else [raw]
    if isinstance(raw, dict) and raw:  # TOML takes the dots of a bare key as tables
        path = shown(f"{name}.{next(iter(raw))}")
        raise InvalidValue(
            f"expected the path of a claim in quotes, such as {path}; got a table for {shown(name)}"
        )
    if not values or not all(isinstance(value, Scalar) for value in values):
        raise InvalidValue(
            f"expected a string, a number, true or false, or a list of them for claim "
            f"{shown(name)}; got {shown(raw)}"
        )
    return tuple(values)


def _outage() -> ValueKind:
    def read(raw: object) -> object:
        return raw if raw == "" else OUTAGE.read(raw)

    return ValueKind(OUTAGE.expected, read)


def _forward_credentials() -> ValueKind:
    def read(raw: object) -> object:
        return raw if raw == "" else _FORWARDED.read(raw)

    return ValueKind(_FORWARDED.expected, read)


Words = Annotated[tuple[str, ...], kinds.listed(_WORD, "a list of words")]


SessionOutage = Literal["local", "stale", "strict", "signature"]
OUTAGE: Final = kinds.choice("local", "stale", "strict", "signature")
# How much each mode trusts while sessions cannot be looked up; a greater number lets more in.
TRUST: Final[dict[str, int]] = {"strict": 0, "stale": 1, "local": 1, "signature": 2}


# The header by which a POST may ask for another method. Empty: such headers are removed.
MethodOverride = Literal["", "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"]
METHOD_OVERRIDES: Final = ("", "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
# Empty means sensitive and strict, but nobody has said that the application does the same.
PathsCase = Literal["", "sensitive", "insensitive"]
TrailingSlash = Literal["", "strict", "ignore"]
PathEscapes = Literal["reject", "pass"]


class RouteSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One rule. Empty `methods` or `hosts` match any; `claims` maps a name to accepted values."""

    path: Annotated[str, _path()]  # exact "/x", prefix "/x/*", or "/*"
    access: Annotated[Access, kinds.choice("public", "optional", "required")] = "required"
    name: Annotated[str, _label()] = ""  # the metric's label
    methods: Annotated[tuple[str, ...], kinds.listed(_method(), "a list of methods")] = ()
    hosts: Annotated[tuple[str, ...], kinds.listed(_host(), "a list of host names")] = ()
    roles: Words = ()  # any of them
    scopes: Annotated[tuple[str, ...], kinds.listed(_SCOPE, "a list of scopes")] = ()  # all
    claims: Annotated[dict[str, tuple[Scalar, ...]], claim_values()] = {}
    upgrades: Annotated[tuple[str, ...], kinds.listed(_upgrade(), "a list of protocols")] = (
        "websocket",
    )
    session_outage: Annotated[SessionOutage | Literal[""], _outage()] = ""  # empty: the global one
    session_end: Annotated[Literal["close", "keep"], kinds.choice("close", "keep")] = "close"
    preflight: Annotated[Literal["check", "pass"], kinds.choice("check", "pass")] = "check"
    method_override: Annotated[MethodOverride, kinds.choice(*METHOD_OVERRIDES)] = ""
    paths_case: Annotated[PathsCase, kinds.choice("", "sensitive", "insensitive")] = ""
    trailing_slash: Annotated[TrailingSlash, kinds.choice("", "strict", "ignore")] = ""
    credentials: Annotated[Credentials, kinds.choice("any", "bearer", "cookie")] = "any"
    path_escapes: Annotated[PathEscapes, kinds.choice("reject", "pass")] = "reject"
    # Empty: "token", and "none" on a public route
    forward_credentials: Annotated[ForwardCredentials | Literal[""], _forward_credentials()] = ""


def check_routes(
    routes: Sequence[RouteSettings | None], prefix: str | None
) -> Iterator[tuple[int, str, str]]:
    """Yield the problems of well-formed rules: position, key, message. None: a malformed rule.

    `prefix` is that of the sidecar's own paths; None if it is malformed.
    """
    for position, route in enumerate(routes):
        if route is not None:
            for key, problem in _check(route, routes[:position]):
                yield position, key, problem
            if why := _owned(route.path, prefix):
                problem = f"expected a path that the sidecar does not serve itself{why}"
                yield position, "path", f"{problem}; got {route.path}"


def _check(
    route: RouteSettings, earlier: Sequence[RouteSettings | None]
) -> Iterator[tuple[str, str]]:
    needs = next((key for key in ("roles", "scopes", "claims") if getattr(route, key)), None)
    if needs and route.access != "required":
        yield "access", f"expected required, because the route has {needs}; got {route.access}"
    if route.credentials != "any" and route.access == "public":
        problem = f"expected any, because a public route looks at none; got {route.credentials}"
        yield "credentials", problem
    if route.preflight == "pass" and set(route.methods) == {"OPTIONS"}:
        yield (
            "methods",
            "expected the methods that preflights announce, such as DELETE; got OPTIONS",
        )
    if route.method_override and route.methods and "POST" not in route.methods:
        yield "methods", "expected POST among them, because only a POST can be overridden"
    if route.path_escapes == "pass":
        if not route.path.endswith("/*"):
            yield "path_escapes", f'expected a prefix such as /x/* for "pass"; got {route.path}'
        if route.method_override:
            yield "path_escapes", 'expected "reject" beside method_override; got "pass"'
    if route.name and any(other and other.name == route.name for other in earlier):
        yield "name", f"expected a unique name; {route.name} is taken"
    for number, other in enumerate(earlier, 1):
        if other is not None and _covers(other, route):
            yield "path", f"never reached: route[{number}] ({other.path}) comes first and covers it"
            break


def _owned(path: str, prefix: str | None) -> str:
    """Return why the sidecar serves this path itself, or an empty text if it does not."""
    if prefix is not None and (path == prefix or path.startswith(prefix + "/")):
        return f", because auth_prefix is {prefix}"
    return ", on every host" if path in OWN_PATHS else ""


def _covers(earlier: RouteSettings, later: RouteSettings) -> bool:
    """Whether every request that `later` would match is matched by `earlier`."""
    return (
        _within(_with_head(earlier.methods), later.methods)
        and _within(earlier.hosts, later.hosts)
        and _path_covers(earlier, later)
    )


def _within(outer: Iterable[str], inner: Iterable[str]) -> bool:
    """Whether `outer` includes all of `inner`. An empty list of methods or hosts means any."""
    return not set(outer) or (bool(set(inner)) and set(inner) <= set(outer))


def _with_head(methods: Sequence[str]) -> Sequence[str]:
    """Return the methods that a rule matches: GET also matches HEAD."""
    return (*methods, "HEAD") if "GET" in methods else methods


def _path_covers(earlier: RouteSettings, later: RouteSettings) -> bool:
    """Whether `earlier` matches every path that `later` matches."""
    outer, inner = earlier.path, later.path
    if earlier.paths_case == "insensitive":
        outer, inner = outer.casefold(), inner.casefold()
    elif later.paths_case == "insensitive" and outer != "/*":
        return False
    if outer.endswith("/*"):
        prefix = outer.removesuffix("/*")
        return inner == prefix or inner.startswith(prefix + "/")
    if earlier.trailing_slash == "ignore":
        return outer.rstrip("/") == inner.rstrip("/")
    return outer == inner and later.trailing_slash != "ignore"
