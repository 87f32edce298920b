"""Logins and tokens that ended here, remembered until they would have expired anyway. Pure.

A tombstone overrides whatever Redis still holds: a write that arrived late, a replica that lags
behind its master, or keys that could not be deleted during an outage. Knows no store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

    from sidecar.auth.session import Session


_MAX_EXEMPT: Final = 100  # logins of one user; the oldest is evicted first


class Tombstones:
    """Ended logins and tokens, and users all of whose logins before some time ended.

    At most `limit` tombstones. Times are seconds since the epoch.
    """

    __slots__ = ("_ids", "_limit", "_users", "dropped")

    def __init__(self, limit: int = 100_000) -> None:
        self._limit = limit
        self._ids: dict[str, float] = {}  # expiry by sid or token id
        # sub: logins that began before this time ended; expiry; exempt sids
        self._users: dict[str, tuple[float, float, dict[str, None]]] = {}
        self.dropped = 0  # evicted before they expired

    def __repr__(self) -> str:
        return (
            f"<Tombstones {len(self._ids)} ids, {len(self._users)} users, {self.dropped} dropped>"
        )

    def __len__(self) -> int:
        return len(self._ids) + len(self._users)

    def add(self, identity: str, now: float, until: float) -> None:
        """End a login by its sid, or a token by its id. Both are random, so they share a table."""
        if not identity:  # every foreign session has an empty sid
            return
        self._make_room(now)
        self._ids[identity] = max(until, self._ids.pop(identity, 0.0))

    def discard(self, identity: str) -> None:
        """Remove the tombstone of a sid or token id, if there is one."""
        self._ids.pop(identity, None)

    def add_user(self, sub: str, now: float, until: float) -> None:
        """End every login of this user that began before `now`."""
        if not sub:
            return
        self._make_room(now)
        before, longest, _ = self._users.pop(sub, (now, until, None))
        self._users[sub] = (max(now, before), max(until, longest), {})

    def exempt(self, session: Session, now: float) -> None:
        """Exempt a login that begins now from a logout of all that lies in the future.

        That happens when the clock was set back. Otherwise a user who ended all logins could not
        log in again until the clock reaches the time of that logout.
        """
        user = self._users.get(session.sub)
        if user is not None and session.created <= now < user[0]:
            if len(user[2]) >= _MAX_EXEMPT:
                del user[2][next(iter(user[2]))]
            user[2][session.sid] = None

    def exempted(self, sub: str) -> Collection[str]:
        """The sids of the exempt logins of this user, as a view that shows later ones as well."""
        user = self._users.get(sub)
        return () if user is None else user[2].keys()

    def contains(self, identity: str, now: float) -> bool:
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

    def _make_room(self, now: float) -> None:
        """Make room for one tombstone: evict expired ones first, then the oldest."""
        if len(self) < self._limit:
            return
        self._ids = {key: until for key, until in self._ids.items() if until > now}
        self._users = {key: value for key, value in self._users.items() if value[1] > now}
        if len(self) >= self._limit:
            # A tenth at once, which spreads the cost of the pass above over many additions.
            for table in (self._ids, self._users):
                for key in list(table)[: -(-len(table) // 10)]:
                    del table[key]
                    self.dropped += 1
