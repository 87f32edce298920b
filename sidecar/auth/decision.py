"""The decisions about a request: allowed or denied. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar.auth.strict_json import parse_trusted

if TYPE_CHECKING:
    from sidecar.auth.reason import Reason

_NOTHING: Final[frozenset[str]] = frozenset()


class Allow(msgspec.Struct, frozen=True, gc=False):
    """The request is allowed, until `expires` if that is set (seconds since the epoch).

    `identity` is the block of identity header lines; `payload` is the JSON of all claims. Two
    callers are the same user only if both `issuer` and `subject` are equal. `local` means that this
    sidecar issued the credential: only then do `subject` and `session_id` name a user and a login
    here. `degraded` means that `identity` says so, because the session could not be looked up.
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
    degraded: bool = False

    def __repr__(self) -> str:
        return f"<Allow {self.subject!r} until {self.expires}>"

    @property
    def claims(self) -> dict[str, Any]:
        """All claims, decoded from `payload` at each access."""
        return parse_trusted(self.payload)


@dataclass(frozen=True, slots=True)
class Forbidden:
    """Who may not do what: the caller, the route whose rule denied, and what they lack.

    `missing` has the roles of which one is needed, the scopes that are lacking, or the name of the
    claim: texts of the configuration only. All of this is for logs; no client sees it.
    """

    allow: Allow
    route: str
    reason: Reason
    missing: str


@dataclass(frozen=True, slots=True)
class Deny:
    """The request is denied. `challenge` is the WWW-Authenticate value, or None for no header.

    `forbidden` is set if a known caller does not meet the rule of a route.
    """

    reason: Reason
    challenge: bytes | None
    forbidden: Forbidden | None = field(default=None, compare=False)

    def to(self, allow: Allow, route: str, *missing: str) -> Deny:
        """This denial for a known caller, who lacks what is named in `missing`."""
        named = Forbidden(allow, route, self.reason, " ".join(sorted(missing)))
        return Deny(self.reason, self.challenge, named)


@dataclass(frozen=True, slots=True)
class NeedKeys(Deny):
    """The request is denied unless `issuer` has published the key of its token by now.

    The issuer is what the token claims; nothing of the token is verified. Fetch the keys and decide
    again, or deny.
    """

    issuer: str = ""


@dataclass(frozen=True, slots=True)
class StaleCookie(Deny):
    """The session of a cookie has ended, and the route is open to requests without credentials.

    A new request may continue as an anonymous one, and its answer should delete the cookie. What
    the session had already allowed ends as by any other denial.
    """
