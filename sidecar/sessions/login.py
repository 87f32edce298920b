"""One login as this process keeps it. Plain data: how long it is live, others say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.auth.session import SessionInfo

if TYPE_CHECKING:
    from sidecar.auth.session import Session


class Login:
    """One login: its current session and refresh id, and until when these are live."""

    __slots__ = (
        *("address", "adopted", "confirmed", "refresh_id", "seen", "session", "token_until"),
        *("until", "used", "user_agent", "watch"),
    )

    def __init__(self, session: Session) -> None:
        self.session = session
        self.refresh_id: str | None = None
        self.used: tuple[str, ...] = ()  # refresh ids of old, the oldest first
        self.user_agent = ""
        self.address = ""
        self.adopted = False  # began in another store
        self.seen = 0.0
        # Of one that another store holds: when that last said so, and by which watch on it.
        self.confirmed = 0.0
        self.watch: object | None = None
        self.token_until = 0.0
        self.until = 0.0

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
