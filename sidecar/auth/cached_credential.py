"""What the gate remembers of one credential between requests. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.auth.decision import NeedSession
from sidecar.auth.session import FOREVER
from sidecar.auth.tokens import SessionMode

if TYPE_CHECKING:
    from sidecar.auth.decision import Allow
    from sidecar.auth.denylist import RevocableToken
    from sidecar.auth.session import Session
    from sidecar.auth.tokens import Verified


class CachedCredential(NeedSession):
    """A bearer token that has been verified, or a session cookie (`verified` is None).

    It is the gate's answer itself, made once for each credential: an object of its own for every
    request would cost more than the rest of the answer. `basis` stands for the keys and users by
    which it was made, and is compared by identity. `digest` is the SHA-256 of the credential.
    `session` is the last session bound to it, and `allow` what that gives. `decided` is true if the
    token needs no session. Times are seconds since the epoch; it may be cached `until` then.
    """

    __slots__ = (
        *("allow", "basis", "decided", "digest", "expires", "not_before", "session", "until"),
    )
    allow: Allow

    def __init__(
        self,
        token_id: str,
        digest: bytes,
        verified: Verified | None,
        basis: object,
        revocable: RevocableToken | None = None,
    ) -> None:
        super().__init__(token_id, verified, revocable)
        self.basis = basis
        self.digest = digest
        self.session: Session | None = None
        self.decided = verified is not None and verified.session_mode is SessionMode.NONE
        self.expires = self.until = FOREVER if verified is None else verified.expires
        self.not_before = 0.0 if verified is None else verified.not_before
