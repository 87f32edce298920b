"""The gate's answer if it must know a session first. Pure.

It is a module beside `decision` because it is compiled, which the structs of `decision` cannot be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.auth.denylist import RevocableToken
    from sidecar.auth.verified import Verified


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
