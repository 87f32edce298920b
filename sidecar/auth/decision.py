"""The decisions about a request: allowed, denied, or what must be known to decide. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar.auth.strict_json import parse_trusted

if TYPE_CHECKING:
    from sidecar.auth.denylist import RevocableToken
    from sidecar.auth.reason import Reason
    from sidecar.auth.tokens import Verified

_NOTHING: Final[frozenset[str]] = frozenset()


class Allow(msgspec.Struct, frozen=True, gc=False):
    """The request is allowed, until `expires` if that is set (seconds since the epoch).

    `identity` is the block of identity header lines; `payload` is the JSON of all claims. Two
    callers are the same user only if both `issuer` and `subject` are equal. `local` means that this
    sidecar issued the credential: only then do `subject` and `session_id` name a user and a login
    here.
    """

    identity: bytes
    subject: str
    session_id: str
    payload: bytes
    expires: float | None
    roles: frozenset[str] = _NOTHING
    scopes: frozenset[str] = _NOTHING
    issuer: str = ""  # empty if nobody is signed in
    local: bool = False

    def __repr__(self) -> str:
        return f"<Allow {self.subject!r} until {self.expires}>"

    @property
    def claims(self) -> dict[str, Any]:
        """All claims, decoded from `payload` at each access."""
        return parse_trusted(self.payload)


@dataclass(frozen=True, slots=True)
class Deny:
    """The request is denied. `challenge` is the WWW-Authenticate value, or None for no header."""

    reason: Reason
    challenge: bytes | None


@dataclass(frozen=True, slots=True)
class NeedKeys(Deny):
    """The request is denied unless `issuer` has published the key of its token by now.

    The issuer is what the token claims; nothing of the token is verified. Fetch the keys and decide
    again, or deny.
    """

    issuer: str


@dataclass(frozen=True, slots=True)
class StaleCookie(Deny):
    """The session of a cookie has ended, and the route is open to requests without credentials.

    A new request may continue as an anonymous one, and its answer should delete the cookie. What
    the session had already allowed ends as by any other denial.
    """


class NeedSession:
    """The decision needs the session of `token_id`, or the revocations of a `revocable` token.

    `verified` is None for a cookie, which is opaque. Pass this to `Gate.resume` with the session.
    """

    __slots__ = ("revocable", "token_id", "verified")

    def __init__(
        self, token_id: str, verified: Verified | None, revocable: RevocableToken | None
    ) -> None:
        self.token_id = token_id
        self.verified = verified
        self.revocable = revocable

    def __repr__(self) -> str:
        kind = "cookie" if self.verified is None else f"token of {self.verified.subject!r}"
        return f"<NeedSession {kind}>"
