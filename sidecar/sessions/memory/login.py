"""One login as this process keeps it. Pure data; the stores decide how long it is live."""

from __future__ import annotations

import msgspec

from sidecar.auth.session import Session, SessionInfo
from sidecar.sessions.coherence import TrackingEpoch


class Login(msgspec.Struct, eq=False, gc=False):
    """One login: its current session and refresh id, and when they expire.

    Times are seconds since the epoch, except for that in `confirmed`.
    """

    # The fields that each request reads come first, so that they share one CPU cache line.
    session: Session
    token_until: float = 0.0
    seen: float = 0.0
    # The tracking epoch in which Redis reports its changes; if there is none, when Redis last
    # confirmed it, in monotonic seconds
    confirmed: TrackingEpoch | float = 0.0
    unused_since: float = -1.0  # `seen` when it was stored
    until: float = 0.0
    refresh_id: str | None = None
    generation: int = 0  # that of its last grant
    used: tuple[str, ...] = ()  # ids of its used refresh tokens, the oldest first
    user_agent: str = ""
    address: str = ""
    adopted: bool = False  # it began in another store

    @property
    def unused(self) -> bool:
        """Whether it was not used since it was stored."""
        return self.seen == self.unused_since

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
