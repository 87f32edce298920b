"""What a verified token says, and which sessions belong to it. Pure data."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from sidecar.auth.session import Session
from sidecar.auth.strict_json import parse_trusted


class SessionMode(StrEnum):
    """What a verified token needs to be accepted."""

    REQUIRED = "required"  # a live session
    DENYLIST = "denylist"  # no revocation
    NONE = "none"  # nothing else


# gc=False, here and for everything kept for each session: such objects cannot form cycles, and the
# garbage collector need not traverse them (see `app.gc_tuning`).
class Verified(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The contents of a verified token. `expires` and `not_before` already include the leeway.

    Times are in seconds since the epoch.
    """

    issuer: str
    local: bool  # this sidecar issued it: only such a token names a user and a login here
    subject: str
    user: str  # the name that the application works with
    session_id: str  # empty when the token has no `sid`
    jti: str  # empty when there is none
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    payload: bytes  # all claims as JSON, which takes a third of the memory of Python objects
    expires: float
    not_before: float
    issued: float  # 0 when the token has no `iat`
    session_mode: SessionMode

    def __repr__(self) -> str:
        return f"<Verified {self.subject!r} by {self.issuer!r}>"

    @property
    def claims(self) -> dict[str, Any]:
        """All claims, decoded from `payload` at each access."""
        return parse_trusted(self.payload)

    def as_session(self, token_id: str, now: float) -> Session:
        """Return a session as this token states it, to ask whether it was ended.

        A date in the future says nothing about when the token was issued, so it counts as older
        than any logout.
        """
        return Session(
            id=token_id,
            sid=self.session_id if self.local else "",
            sub=self.subject if self.local else "",
            claims={},
            created=self.issued if self.issued <= now else 0.0,
            exp=self.expires,
        )


def belongs(session: Session, token_id: str, verified: Verified | None) -> bool:
    """Whether a session belongs to a credential. A copied or swapped session does not."""
    if session.id != token_id:
        return False
    if not session.sub:  # written by another program: live, but only the token names the user
        return verified is not None
    return verified is None or (
        session.sub == verified.subject and verified.session_id in {"", session.sid}
    )
