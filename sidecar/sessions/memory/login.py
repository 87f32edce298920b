"""One login as this process keeps it. Plain data: how long it is live, others say."""

from __future__ import annotations

import msgspec

from sidecar.auth.session import Session, SessionInfo


class Login(msgspec.Struct, eq=False, gc=False):
    """One login: its current session and refresh id, and until when these are live."""

    # What each request looks at stands together, in one line of the CPU's cache.
    session: Session
    token_until: float = 0.0
    seen: float = 0.0
    epoch: object | None = None  # on the store that holds it, if another does
    confirmed: float = 0.0  # when that store last said so, in monotonic seconds
    until: float = 0.0
    refresh_id: str | None = None
    used: tuple[str, ...] = ()  # refresh ids of old, the oldest first
    user_agent: str = ""
    address: str = ""
    adopted: bool = False  # began in another store

    @property
    def key(self) -> str:
        """What it is kept under: its sid; a session that others wrote has none."""
        return self.session.sid or self.session.id

    def info(self) -> SessionInfo:
        """How a listing shows it."""
        session = self.session
        return SessionInfo(
            sid=session.sid,
            sub=session.sub,
            created=session.created,
            seen=self.seen,
            exp=self.until,
            method=session.method,
            user_agent=self.user_agent,
            address=self.address,
        )
