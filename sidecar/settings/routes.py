"""One `[[route]]` of the file: what its keys may hold, and how rules relate to each other.

Says which rules are well-formed and reachable; matching requests is `auth.routes`'s business.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from sidecar.settings import kinds, net
from sidecar.settings.kinds import Kind, Refused, Unfit, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Scalar = str | int | float | bool
Access = Literal["public", "optional", "required"]

DEFAULT_NAME: Final = "default"
# What the sidecar serves itself, on every host; no rule of the file is asked about these.
OWN_PREFIX: Final = "/auth"
OWN_PATHS: Final = frozenset({"/.well-known/jwks.json"})

_METHOD: Final = re.compile(r"[A-Z][A-Z0-9-]*")
_SCOPE: Final = kinds.matching(  # RFC 6749 section 3.3
    r"[\x21\x23-\x5b\x5d-\x7e]+", 'a scope: printable ASCII without spaces, " and \\'
)
_WORD: Final = kinds.matching(r"[^\s,]+", "a word without spaces and commas")
_PROTOCOL: Final = kinds.matching(kinds.TOKEN, "a protocol such as websocket")
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _path() -> Kind:
    def read(raw: object) -> str:
        if not isinstance(raw, str) or not raw.startswith("/"):
            raise Unfit
        literal = raw.removesuffix("*") if raw.endswith("/*") else raw
        segments = literal.split("/")
        if "*" in literal:
            raise Refused(f'expected "*" only at the end, as in /x/*; got {shown(raw)}')
        if "%" in literal:
            raise Refused(
                f"expected a decoded path: the character itself, not %XX; got {shown(raw)}"
            )
        if any(char in literal for char in "?#;\\") or not literal.isprintable():
            raise Refused(f"expected a path alone, without ? # ; or \\; got {shown(raw)}")
        if "" in segments[1:-1] or "." in segments or ".." in segments:
            raise Refused(f'expected a path without "//", "." and ".."; got {shown(raw)}')
        return raw

    return Kind("a path such as /x, a prefix such as /x/*, or /*", read)


def _method() -> Kind:
    def read(raw: object) -> str:
        if not isinstance(raw, str) or not _METHOD.fullmatch(raw):
            raise Unfit
        if raw == "CONNECT":
            raise Refused("expected a method other than CONNECT, which is refused on every route")
        return raw

    return Kind("a method in upper case, such as GET", read)


def _host() -> Kind:
    def read(raw: object) -> str:
        bare = raw[1:-1] if isinstance(raw, str) and re.fullmatch(r"\[.*\]", raw) else raw
        if not isinstance(bare, str) or not net.is_host(bare):
            raise Unfit
        return net.bracketed(bare).lower().removesuffix(".")

    return Kind("a host name without a port", read)


def _upgrade() -> Kind:
    def read(raw: object) -> str:
        protocol = str(_PROTOCOL.read(raw)).lower()
        if protocol.startswith("h2"):
            raise Refused(
                f"expected a protocol other than HTTP/2, never tunnelled; got {shown(raw)}"
            )
        return protocol

    return Kind(_PROTOCOL.expected, read)


def _label() -> Kind:
    def read(raw: object) -> str:
        if not isinstance(raw, str) or not _LABEL.fullmatch(raw):
            raise Unfit
        if raw == DEFAULT_NAME:
            raise Refused(f"expected another name than {raw}, that of requests without a rule")
        return raw

    return Kind("at most 64 letters, digits and ._-", read)


def _claims() -> Kind:
    def read(raw: object) -> dict[str, tuple[Scalar, ...]]:
        if not isinstance(raw, dict):
            raise Unfit
        return {str(name): _accepted(str(name), value) for name, value in raw.items()}

    def show(claims: dict[str, tuple[Scalar, ...]]) -> object:
        return {name: list(values) for name, values in claims.items()}

    return Kind('a table such as {tenant = "acme", level = [2, 3]}', read, show)


def _accepted(name: str, raw: object) -> tuple[Scalar, ...]:
    values = raw if isinstance(raw, list) else [raw]
    if not values or not all(isinstance(value, Scalar) for value in values):
        raise Refused(
            f"expected a text, a number, true or false, or a list of them for claim {shown(name)}; "
            f"got {shown(raw)}"
        )
    return tuple(values)


def _outage() -> Kind:
    def read(raw: object) -> object:
        return raw if raw == "" else OUTAGE.read(raw)

    return Kind(OUTAGE.expected, read)


Words = Annotated[tuple[str, ...], kinds.listed(_WORD, "a list of words")]


SessionOutage = Literal["local", "stale", "strict", "signature"]
OUTAGE: Final = kinds.choice("local", "stale", "strict", "signature")
# How much each lets in while the sessions cannot be asked for.
TRUST: Final[dict[str, int]] = {"strict": 0, "stale": 1, "local": 1, "signature": 2}


class RouteSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One rule. Empty methods and hosts mean any; `claims` gives each claim's accepted values."""

    path: Annotated[str, _path()]  # exact "/x", prefix "/x/*", or "/*"
    access: Annotated[Access, kinds.choice("public", "optional", "required")] = "required"
    name: Annotated[str, _label()] = ""  # the metric's label
    methods: Annotated[tuple[str, ...], kinds.listed(_method(), "a list of methods")] = ()
    hosts: Annotated[tuple[str, ...], kinds.listed(_host(), "a list of host names")] = ()
    roles: Words = ()  # any of them
    scopes: Annotated[tuple[str, ...], kinds.listed(_SCOPE, "a list of scopes")] = ()  # all
    claims: Annotated[dict[str, tuple[Scalar, ...]], _claims()] = {}
    upgrades: Annotated[tuple[str, ...], kinds.listed(_upgrade(), "a list of protocols")] = (
        "websocket",
    )
    session_outage: Annotated[SessionOutage | Literal[""], _outage()] = ""  # empty: the global one
    session_end: Annotated[Literal["close", "keep"], kinds.choice("close", "keep")] = "close"
    preflight: Annotated[Literal["check", "pass"], kinds.choice("check", "pass")] = "check"


def check_routes(routes: Sequence[RouteSettings | None]) -> Iterator[tuple[int, str, str]]:
    """What is wrong with well-formed rules: position, key, problem. None stands for another."""
    for position, route in enumerate(routes):
        if route is not None:
            for key, problem in _check(route, routes[:position]):
                yield position, key, problem


def _check(
    route: RouteSettings, earlier: Sequence[RouteSettings | None]
) -> Iterator[tuple[str, str]]:
    asked = next((key for key in ("roles", "scopes", "claims") if getattr(route, key)), None)
    if asked and route.access != "required":
        yield "access", f"expected required, for the route asks for {asked}; got {route.access}"
    if route.preflight == "pass" and set(route.methods) == {"OPTIONS"}:
        yield (
            "methods",
            "expected those of the requests that preflights announce, such as DELETE; got OPTIONS",
        )
    if _is_own(route.path):
        yield "path", f"expected a path that the sidecar does not serve itself; got {route.path}"
    if route.name and any(other and other.name == route.name for other in earlier):
        yield "name", f"expected a name of its own; {route.name} is taken"
    for number, other in enumerate(earlier, 1):
        if other is not None and _covers(other, route):
            yield "path", f"never reached: route[{number}] ({other.path}) comes first and covers it"
            break


def _is_own(path: str) -> bool:
    return path in OWN_PATHS or path == OWN_PREFIX or path.startswith(OWN_PREFIX + "/")


def _covers(earlier: RouteSettings, later: RouteSettings) -> bool:
    """Whether every request that `later` would match is matched by `earlier`."""
    return (
        _within(_with_head(earlier.methods), later.methods)
        and _within(earlier.hosts, later.hosts)
        and _path_covers(earlier.path, later.path)
    )


def _within(outer: Iterable[str], inner: Iterable[str]) -> bool:
    """Whether these methods or hosts include those; none given means any."""
    return not set(outer) or (bool(set(inner)) and set(inner) <= set(outer))


def _with_head(methods: Sequence[str]) -> Sequence[str]:
    """What a rule's methods match: GET covers HEAD."""
    return (*methods, "HEAD") if "GET" in methods else methods


def _path_covers(earlier: str, later: str) -> bool:
    if not earlier.endswith("/*"):
        return earlier == later
    prefix = earlier.removesuffix("/*")
    return later == prefix or later.startswith(prefix + "/")
