"""The logins that began with a password of the users file, and what the file says about them now.

Sessions and tokens state the user's claims as they were at the login. The file overrides them: a
user who was removed or disabled has no login, and a user who was changed has the present claims.
Logins of any other kind, and all logins where there is no users file, are what they state. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from sidecar.auth.issue import AMR, PASSWORD_USED, REGISTERED, user_claims
from sidecar.auth.session import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.auth.session import Session
    from sidecar.auth.verified import Verified


class PresentUsers(Protocol):
    """The users of the users file."""

    def claims_of(self, name: str) -> Mapping[str, Any] | None:
        """The user's roles, scopes and other claims; None for a removed or disabled user."""


class PasswordLogins:
    """Answers for the logins of these users; `users` is None where no users file is configured.

    `issuer` is the issuer of the tokens that these logins get.
    """

    __slots__ = ("_issuer", "_users")

    def __init__(self, users: PresentUsers | None = None, issuer: str = "") -> None:
        self._users = users
        self._issuer = issuer

    def __repr__(self) -> str:
        return f"<PasswordLogins of {self._users!r}>"

    def present_claims(
        self, method: str, sub: str, stated: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        """Return the claims that a login has now, or None if its user is gone.

        `stated` are those of its session or refresh record, and `method` says how it began.
        """
        if self._users is None or method != PASSWORD:
            return stated
        return self._users.claims_of(sub)

    def token_claims(
        self, verified: Verified, stated: Mapping[str, Any], session: Session | None
    ) -> Mapping[str, Any] | None:
        """Return all claims that a token has now, or None if its user is gone.

        `stated` are those in the token, decoded, and returned for a login of another kind.
        Otherwise those about the user are replaced by those of the file.
        """
        if self._users is None or not self._has_begun(verified, stated, session):
            return stated
        present = self._users.claims_of(verified.subject)
        if present is None:
            return None
        about_token = {name: value for name, value in stated.items() if name in REGISTERED}
        return user_claims(present) | about_token

    def _has_begun(
        self, verified: Verified, stated: Mapping[str, Any], session: Session | None
    ) -> bool:
        """Whether a password login here began the login of this token.

        The token says so itself, because not every token has a session that could. Tokens of the
        same issuer that were made elsewhere, or by `sidecar token mint`, do not.
        """
        if not verified.local:
            return False
        return (session is not None and session.method == PASSWORD) or (
            stated.get("client_id") == self._issuer and stated.get(AMR) == PASSWORD_USED
        )
