"""The identity headers that tell the upstream who is calling, as bytes ready to send.

Owns the names, which clients may not send, and the encoding that prevents a claim from adding a
header or a list item. Knows no tokens and no requests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping  # noqa: TC003 (looked up by a compiled named tuple)
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

from sidecar.claim_path import ClaimPath

if TYPE_CHECKING:
    from collections.abc import Callable

# Of the characters in RFC 9110 section 5.6.2, only those that applications do not rewrite.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_RESERVED: Final = frozenset(
    (
        *("authorization", "connection", "content-length", "content-type", "cookie", "expect"),
        *("forwarded", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"),
        *("via", "x-request-id"),
    )
)

# Visible characters except `%`, which begins an escape. Lists also exclude their separator.
_VISIBLE: Final = "".join(chr(c) for c in range(0x20, 0x7F) if chr(c) != "%")
_SAFE: Final = {each: _VISIBLE.replace(each, "") for each in ("", ",", " ")}


class Identity(NamedTuple):
    """Whom a request comes from. `subject` is unique for each `issuer` only."""

    claims: Mapping[str, Any]
    user: str  # the name that the application works with: the subject, or a claim
    subject: str
    issuer: str
    session_id: str
    roles: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()


class IdentityHeaders:
    """Writes the identity headers: six default ones, and `extra` (header name to claim path).

    An `extra` header with the name of a default one replaces it. Raises ValueError for an `extra`
    name that is invalid, reserved, or given twice, and for an invalid path.
    """

    __slots__ = ("_renders", "anonymous", "names")

    def __init__(self, extra: Mapping[str, str] | None = None) -> None:
        renders = {_fold(name): (name, render) for name, render in _DEFAULTS.items()}
        extra = extra or {}
        for name, claim in extra.items():
            folded = _fold(name)
            if (
                not _NAME.fullmatch(name)
                or folded in _RESERVED
                or folded.startswith("x-forwarded-")
            ):
                raise ValueError(f'expected a valid header name that is not reserved; got "{name}"')
            renders[folded] = (name, _of_claim(claim))
        if len(extra) != len(set(map(_fold, extra))):
            raise ValueError("expected header names that differ in more than case, - and _")
        self.names = frozenset(folded.encode() for folded in renders)
        self._renders = tuple((f"{name}: ", render) for name, render in renders.values())
        self.anonymous = self.lines(Identity({}, "", "", "", ""))

    def __repr__(self) -> str:
        return f"<IdentityHeaders {b' '.join(sorted(self.names)).decode()}>"

    def lines(self, identity: Identity) -> bytes:
        """Return every header as a `Name: value` line with CRLF; a missing claim is empty."""
        lines = [f"{name}{render(identity)}\r\n" for name, render in self._renders]
        return "".join(lines).encode("ascii")


def encode_value(text: str, separator: str = "") -> str:
    """Percent-encode a text for a header: unsafe characters, and spaces at either end, as UTF-8.

    An item of a list must not contain its `separator`, a comma or a space.
    """
    if (
        text.isascii()
        and text.isprintable()
        and "%" not in text
        and (not separator or separator not in text)
        and text[:1] != " "
        and text[-1:] != " "
    ):
        return text  # as nearly all texts are; the rest takes ten times as long
    inner, safe = text.strip(" "), _SAFE[separator]
    before, after = len(text) - len(text.lstrip(" ")), len(text) - len(text.rstrip(" "))
    if not inner:
        before, after = len(text), 0
    # UTF-8 cannot encode a lone surrogate; `surrogatepass` makes it an escape like any other.
    return "%20" * before + quote(inner, safe=safe, errors="surrogatepass") + "%20" * after


def _fold(name: str) -> str:
    return name.lower().replace("_", "-")


def _user(identity: Identity) -> str:
    return encode_value(identity.user)


def _subject(identity: Identity) -> str:
    return encode_value(identity.subject)


def _issuer(identity: Identity) -> str:
    return encode_value(identity.issuer)


def _roles(identity: Identity) -> str:
    return ",".join([encode_value(role, ",") for role in identity.roles])


def _scopes(identity: Identity) -> str:
    return " ".join([encode_value(scope, " ") for scope in identity.scopes])


def _session(identity: Identity) -> str:
    return encode_value(identity.session_id)


def _of_claim(claim: str) -> Callable[[Identity], str]:
    path = ClaimPath(claim)

    def render(identity: Identity) -> str:
        decided = {"sub": identity.subject, "sid": identity.session_id, "iss": identity.issuer}
        value = decided.get(claim) or path.find(identity.claims)
        if isinstance(value, list):
            return ",".join([encode_value(_text(each), ",") for each in value])
        return encode_value(_text(value))

    return render


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"))


_DEFAULTS: Final[Mapping[str, Callable[[Identity], str]]] = {
    "X-Auth-User": _user,
    "X-Auth-Subject": _subject,
    "X-Auth-Issuer": _issuer,
    "X-Auth-Roles": _roles,
    "X-Auth-Scopes": _scopes,
    "X-Auth-Session": _session,
}
