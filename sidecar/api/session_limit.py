"""Bounds the logins of one user: a new one ends the oldest, or is refused.

The new login is written before it is counted, so that two pods that count at once both see both:
the limit is never exceeded. Logins that race may end one login too many, or all be refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sidecar.telemetry.audit import Event, Subject, audit

if TYPE_CHECKING:
    from sidecar.auth.session import Session
    from sidecar.sessions.store import SessionStore

# How many logins a new one ends at most. More are left only by a limit that was lowered.
_ENDED_AT_ONCE: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimit:
    """At most `most` live logins of each user, 0 for any number. `refuse` spares the oldest."""

    most: int = 100
    refuse: bool = False


async def keep_limit(limit: SessionLimit, store: SessionStore, session: Session) -> bool:
    """End the user's oldest logins beyond the limit, or the new one. False if that was refused.

    `session` is that of a login that was just written. Logins are as old as the pods' clocks said
    when they began. Raises StoreUnavailable.
    """
    if not limit.most:
        return True
    began = await store.login_times(session.sub, above=limit.most)
    if len(began) <= limit.most:
        return True
    if limit.refuse:
        await store.revoke_session(session.sid)
        return False
    by_age = sorted(began.keys() - {session.sid}, key=lambda sid: (began[sid], sid))
    for sid in by_age[: min(len(began) - limit.most, _ENDED_AT_ONCE)]:
        await store.revoke_session(sid)
        ended = Subject(session.sub, sid=sid)
        audit("login ended: its user has too many", Event.SESSION_ENDED, ended, result="too_many")
    return True
