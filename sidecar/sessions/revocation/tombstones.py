"""What was ended here, remembered until it could not be live any more. Pure.

Wins over whatever Redis still holds: a write that arrived late, a replica behind its master, or all
that could not be deleted during an outage. Knows no store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sidecar.auth.session import Session


_SPARED: Final = 100  # logins of one user; the oldest goes first


class Tombstones:
    """Ended logins and tokens, and users all of whose logins before a moment are ended. Bounded."""

    __slots__ = ("_ids", "_limit", "_users", "dropped")

    def __init__(self, limit: int = 100_000) -> None:
        self._limit = limit
        self._ids: dict[str, float] = {}  # sid or token id: until when
        # sub: ended what began before, until when, except these
        self._users: dict[str, tuple[float, float, dict[str, None]]] = {}
        self.dropped = 0  # for want of room, while they still held

    def __repr__(self) -> str:
        return (
            f"<Tombstones {len(self._ids)} ids, {len(self._users)} users, {self.dropped} dropped>"
        )

    def add(self, identity: str, now: float, until: float) -> None:
        """End a login by its sid, or a token by its id. Both are random: they share one table."""
        if not identity:  # of sessions that others wrote: theirs all
            return
        self._room(now)
        self._ids[identity] = max(until, self._ids.pop(identity, 0.0))

    def add_user(self, sub: str, now: float, until: float) -> None:
        """End every login of this user that began before `now`."""
        if not sub:
            return
        self._room(now)
        before, longest, _ = self._users.pop(sub, (now, until, None))
        self._users[sub] = (max(now, before), max(until, longest), {})

    def spare(self, session: Session, now: float) -> None:
        """A login begins now; what was ended before, in what is the future now, leaves it alone.

        The clock was set back then. Without this a user who had ended all logins could begin none
        until that time has come again.
        """
        user = self._users.get(session.sub)
        if user is not None and session.created <= now < user[0]:
            if len(user[2]) >= _SPARED:
                del user[2][next(iter(user[2]))]
            user[2][session.sid] = None

    def holds(self, identity: str, now: float) -> bool:
        """Whether this sid or token id was ended here."""
        return self._ids.get(identity, 0.0) > now

    def is_ended(self, session: Session, now: float) -> bool:
        """Whether this session was ended here: by its token, its login, or its user."""
        if self._ids.get(session.id, 0.0) > now:
            return True
        return self.is_login_ended(session.sid, session.sub, session.created, now)

    def is_login_ended(self, sid: str, sub: str, created: float, now: float) -> bool:
        """Whether this login, begun at `created`, was ended here."""
        if self._ids.get(sid, 0.0) > now:
            return True
        user = self._users.get(sub)
        return user is not None and user[1] > now and created < user[0] and sid not in user[2]

    def _room(self, now: float) -> None:
        """Make room for one more: what holds no longer goes first, then the oldest."""
        if len(self._ids) + len(self._users) < self._limit:
            return
        self._ids = {key: until for key, until in self._ids.items() if until > now}
        self._users = {key: value for key, value in self._users.items() if value[1] > now}
        if len(self._ids) + len(self._users) >= self._limit:
            # A tenth at once, so that the pass above is paid for by many additions.
            for table in (self._ids, self._users):
                for key in list(table)[: -(-len(table) // 10)]:
                    del table[key]
                    self.dropped += 1
