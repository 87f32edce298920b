"""One login as this process keeps it. Pure data; the stores decide how long it is live."""

from __future__ import annotations

import msgspec

from sidecar.auth.session import Session, SessionInfo


class Login(msgspec.Struct, eq=False, gc=False):
    """One login: its current session and refresh id, and when they expire.

    Times are seconds since the epoch, except for `confirmed`.
    """

    # The fields that each request reads come first, so that they share one CPU cache line.
    session: Session
    token_until: float = 0.0
    seen: float = 0.0
    epoch: object | None = None  # the tracking epoch in which Redis reports its changes
    confirmed: float = 0.0  # when Redis last confirmed it, in monotonic seconds
    until: float = 0.0
    refresh_id: str | None = None
    generation: int = 0  # that of its last grant
    used: tuple[str, ...] = ()  # ids of its used refresh tokens, the oldest first
    user_agent: str = ""
    address: str = ""
    adopted: bool = False  # it began in another store

    @property
    def key(self) -> str:
        """What it is stored under: its sid, or the token id of a foreign session."""
        return self.session.sid or self.session.id

    def info(self) -> SessionInfo:
        """The login as a listing shows it."""
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
