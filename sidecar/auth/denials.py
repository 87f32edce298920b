"""The denials of one gate, prepared once for each reason, with their challenges. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.auth.decision import Deny, NeedKeys, StaleCookie
from sidecar.auth.reason import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

# Why a cookie can never count again: it is no value of ours, its session has ended, or its user is
# gone. A cookie of another's session (SESSION_MISMATCH) is not among them: Redis was tampered with.
_STALE: Final = (
    Reason.TOKEN_TOO_LONG,
    Reason.TOKEN_MALFORMED,
    Reason.SESSION_MISSING,
    Reason.USER_GONE,
)


class Denials(dict[Reason, Deny]):
    """A denial for each reason. Challenges name this `realm` (RFC 9110 section 11.5)."""

    def __init__(self, realm: str) -> None:
        bearer = b'Bearer realm="%b"' % realm.encode("ascii")
        super().__init__({reason: Deny(reason, _challenge(bearer, reason)) for reason in Reason})
        self._stale = {reason: StaleCookie(reason, self[reason].challenge) for reason in _STALE}

    def __repr__(self) -> str:
        return f"<Denials for {len(self)} reasons>"

    def stale_cookie(self, reason: Reason) -> Deny:
        """Deny a session cookie where a request may also come without one.

        `StaleCookie`, if the cookie can never count again.
        """
        return self._stale.get(reason) or self[reason]

    def unknown_key(self, issuer: str) -> NeedKeys:
        """Deny a token whose key is unknown, unless its issuer has published the key by now."""
        reason = Reason.KEY_UNKNOWN
        return NeedKeys(reason, self[reason].challenge, issuer=issuer)

    def scope(self, required: Iterable[str]) -> Deny:
        """Deny with a challenge that names the required scopes (RFC 6750 section 3.1)."""
        challenge = self[Reason.SCOPE].challenge or b""
        names = " ".join(sorted(required)).encode("ascii")
        return Deny(Reason.SCOPE, b'%b, scope="%b"' % (challenge, names))


def _challenge(bearer: bytes, reason: Reason) -> bytes | None:
    """Return the challenge; without credentials it has no error code (RFC 6750 section 3)."""
    if reason.error is not None:
        return b'%b, error="%b"' % (bearer, reason.error.encode("ascii"))
    return bearer if reason.status == 401 else None
