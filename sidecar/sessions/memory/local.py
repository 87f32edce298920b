"""Sessions in this process' memory: the store of a pod alone, and what an outage falls back to.

Bounded; everything has an end. Does no I/O and never waits, so every method is atomic. Knows
nothing of Redis.
"""

from __future__ import annotations

from functools import partial
from heapq import heapify, heappop, heappush
from itertools import islice
from time import time
from typing import TYPE_CHECKING, Final

from sidecar.sessions.coherence import ignore_change
from sidecar.sessions.memory.by_user import ByUser
from sidecar.sessions.memory.login import Login
from sidecar.sessions.revocation.denylist import LocalRevocations, OwnTokens, RevocationTable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.auth.session import Grant, RefreshRecord, Session, SessionInfo

HIT: Final = ("local", "hit")
MISS: Final = ("local", "miss")
# Used refresh records are kept for theft to be recognised, the last few of each login. An older
# one is unknown, and so refused just the same.
_USED_KEPT: Final = 16
_ROOM_MADE: Final = 256  # one in so many goes when there is no more room


class LocalStore:
    """A `SessionStore` of at most `max_sessions` logins; `max_age` (seconds) ends each earlier.

    When it is full, what has expired goes first, then the oldest. `clock` gives epoch seconds;
    look-ups are counted in `lookups` by (source, result); `own` is denied when a login ends.
    """

    degraded: Final = False
    tells: Final = True  # there is no elsewhere

    __slots__ = (
        *("_clock", "_ends", "_logins", "_lookups", "_max_age", "_max_sessions", "_own"),
        *("_listener", "_refresh", "_tokens", "_users", "revocations"),
    )

    def __init__(
        self,
        clock: Callable[[], float] = time,
        max_sessions: int = 100_000,
        *,
        max_age: float | None = None,
        lookups: dict[tuple[str, str], int] | None = None,
        own: OwnTokens | None = None,
    ) -> None:
        self._clock = clock
        self._max_sessions = max_sessions
        self._max_age = max_age
        self._own = OwnTokens() if own is None else own
        self._listener: Callable[[str | None], None] = ignore_change
        self.revocations = LocalRevocations(RevocationTable(clock, max_sessions))
        self._lookups = {} if lookups is None else lookups
        self._lookups.setdefault(HIT, 0)
        self._lookups.setdefault(MISS, 0)
        self._logins: dict[str, Login] = {}  # oldest first
        self._tokens: dict[str, Login] = {}
        self._users = ByUser()
        self._refresh: dict[str, tuple[float, RefreshRecord]] = {}  # until, record
        self._ends: list[tuple[float, str]] = []  # a heap: when a login ends at the earliest

    def __repr__(self) -> str:
        return (
            f"<LocalStore {len(self._logins)} of {self._max_sessions} logins,"
            f" {len(self._refresh)} refresh records>"
        )

    def __len__(self) -> int:
        return len(self._logins)

    def on_ended(self, listener: Callable[[str | None], None]) -> None:
        """Call this with the token id of each session that ends; None: any may have."""
        self._listener = listener
        self.revocations.on_revoked(partial(listener, None))

    async def token_of(self, sid: str) -> str | None:
        """The id of the token that a login has now, or None."""
        return login.session.id if (login := self.login(sid)) else None

    def peek(self, token_id: str) -> Session | None:
        """The live session, or None. The hot path: one look-up, one comparison."""
        login = self._tokens.get(token_id)
        if login is None:
            return None
        now = self._clock()
        if login.token_until <= now:
            return None
        login.seen = now
        self._lookups[HIT] += 1
        return login.session

    def known(self, token_id: str) -> Session | None:
        """As `peek`."""
        return self.peek(token_id)

    def ended_here(self, session: Session) -> bool:
        """False: what was ended here is not live here."""
        return False

    async def get(self, token_id: str) -> Session | None:
        """The live session, or None."""
        session = self.peek(token_id)
        if session is None:
            self._lookups[MISS] += 1
            self.sweep(self._clock())
        return session

    async def write(self, grant: Grant) -> bool:
        """Write all of one login or refresh, then end the token it replaces."""
        return self.put(grant)

    def put(self, grant: Grant, *, adopt: bool = False) -> bool:
        """`write`, at once. `adopt` continues a login that began in another store."""
        now = self._clock()
        self.sweep(now)
        login = self._login(grant.session.sid, now)
        if login is None:
            if grant.replaces is not None and not adopt:
                return False
            login = self._begin(grant.session, now)
            login.adopted = adopt
        self._continue(login, grant.session, now)
        login.user_agent = grant.user_agent or login.user_agent
        login.address = grant.address or login.address
        login.seen = now
        if grant.refresh_id is not None and grant.refresh is not None:
            login.refresh_id = grant.refresh_id
            self.put_refresh(grant.refresh_id, grant.refresh)
        self._end_at(login, grant.refresh.exp if grant.refresh else grant.session.exp, now)
        return True

    @property
    def tokens(self) -> Mapping[str, Login]:
        """The logins by their current token's id; also those that have ended and are not swept."""
        return self._tokens

    def clear(self) -> None:
        """Forget everything."""
        for key in list(self._logins):
            self.drop(key)
        self._refresh.clear()
        self._ends.clear()

    def remember(self, session: Session) -> Login | None:
        """Know a session that another store holds. None if a newer token of its login is known."""
        now = self._clock()
        key = session.sid or session.id
        login = self._logins.pop(key, None)
        if login is None:
            login = self._begin(session, now)
            login.adopted = True
        else:
            self._logins[key] = login  # the one seen last is the last to go
            if login.session.exp > session.exp:
                return None
        self._continue(login, session, now)
        login.seen = now
        until = max(login.until, session.exp)
        self._end_at(login, until, now)
        return login

    async def get_refresh(self, refresh_id: str) -> RefreshRecord | None:
        """The record of a refresh token, live or used, or None."""
        return self.refresh_record(refresh_id)

    def refresh_record(self, refresh_id: str) -> RefreshRecord | None:
        """`get_refresh`, at once."""
        until, record = self._refresh.get(refresh_id, (0.0, None))
        if record is not None and until <= self._clock():
            del self._refresh[refresh_id]
            return None
        return record

    def put_refresh(self, refresh_id: str, record: RefreshRecord) -> None:
        """Keep a refresh token's record; a used one stays used."""
        known = self.refresh_record(refresh_id)
        if known is not None and known.used_at is not None:
            return
        self._refresh.pop(refresh_id, None)
        if len(self._refresh) >= self._max_sessions * (_USED_KEPT + 1):
            del self._refresh[next(iter(self._refresh))]
        self._refresh[refresh_id] = (self._capped(record.exp, self._clock()), record)

    async def claim_refresh(self, refresh_id: str, used: RefreshRecord) -> RefreshRecord | None:
        """Put `used` in place of a live record; what was there before."""
        return self.claim(refresh_id, used)

    def claim(self, refresh_id: str, used: RefreshRecord) -> RefreshRecord | None:
        """`claim_refresh`, at once."""
        record = self.refresh_record(refresh_id)
        if record is None or record.used_at is not None:
            return record
        self.put_refresh(refresh_id, used)
        login = self._logins.get(record.sid)
        if login is not None:
            for old in login.used[: -_USED_KEPT + 1]:
                self._refresh.pop(old, None)
            login.used = (*login.used[-_USED_KEPT + 1 :], refresh_id)
        return record

    async def revoke_session(self, sid: str) -> bool:
        """End one login. True if there was one."""
        await self.revocations.revoke(self._own.of_logins([sid], self._clock()))
        return self.drop(sid)

    def drop(self, key: str) -> bool:
        """`revoke_session`, at once. True if there was a live one."""
        login = self._logins.pop(key, None)
        if login is None:
            return False
        session = login.session
        self._tokens.pop(session.id, None)
        for refresh_id in (login.refresh_id or "", *login.used):
            self._refresh.pop(refresh_id, None)
        self._users.remove(session.sub, key)
        self._listener(session.id)
        return login.until > self._clock()

    async def revoke_token(self, token_id: str) -> bool:
        """End the credential under this id, and its login. True if there was one."""
        login = self._tokens.get(token_id)
        return login is not None and await self.revoke_session(login.key)

    def drop_token(self, token_id: str) -> bool:
        """`revoke_token`, at once."""
        login = self._tokens.get(token_id)
        return login is not None and self.drop(login.key)

    async def revoke_user(self, sub: str) -> int:
        """End every login of a user; how many there were."""
        now, ended = self._clock(), self.drop_user(sub)
        await self.revocations.revoke(
            self._own.of_user(sub, now, now) | self._own.of_logins(ended, now)
        )
        return len(ended)

    def drop_user(self, sub: str) -> list[str]:
        """`revoke_user`, at once; the sids of those that were live."""
        return [login.key for login in self._users.of(sub) if self.drop(login.key)]

    async def sessions_of(self, sub: str) -> list[SessionInfo]:
        """The user's live logins, newest first."""
        return self.listing(sub)

    def listing(self, sub: str) -> list[SessionInfo]:
        """`sessions_of`, at once."""
        now = self._clock()
        mine = self._users.of(sub)
        infos = [login.info() for login in mine if login.until > now and login.session.sid]
        return sorted(infos, key=lambda info: info.created, reverse=True)

    async def close(self) -> None:
        """Nothing to give back."""

    def login(self, sid: str) -> Login | None:
        """The live login under this sid."""
        return self._login(sid, self._clock())

    def sweep(self, now: float) -> int:
        """Forget every login that has ended; how many. Costs what it removes."""
        ends, removed = self._ends, 0
        while ends and ends[0][0] <= now:
            key = heappop(ends)[1]
            login = self._logins.get(key)
            if login is None:
                continue
            if login.until > now:
                heappush(ends, (login.until, key))  # it was prolonged
            else:
                self.drop(key)
                removed += 1
        return removed

    def _login(self, sid: str, now: float) -> Login | None:
        login = self._logins.get(sid)
        return login if login is not None and login.until > now else None

    def _begin(self, session: Session, now: float) -> Login:
        key = session.sid or session.id
        self.drop(key)  # one that has ended and was not swept yet
        if len(self._logins) >= self._max_sessions:
            self.sweep(now)
        if len(self._logins) >= self._max_sessions:
            # Some at once: to find the first of a dict, all that was deleted before it is passed.
            for oldest in list(islice(self._logins, len(self._logins) // _ROOM_MADE + 1)):
                self.drop(oldest)
        login = self._logins[key] = Login(session)
        self._users.add(session.sub, login)
        return login

    def _continue(self, login: Login, session: Session, now: float) -> None:
        """Make this the login's one current session."""
        if login.session.id != session.id:
            self._tokens.pop(login.session.id, None)
            self._listener(login.session.id)
        login.session = session
        login.epoch = None
        login.token_until = self._capped(session.exp, now)
        self._tokens[session.id] = login

    def _end_at(self, login: Login, until: float, now: float) -> None:
        new = login.until == 0.0
        login.until = self._capped(until, now)
        if new:  # one entry for each login: a later end is seen to when this one comes up
            heappush(self._ends, (login.until, login.key))
            if len(self._ends) > 2 * len(self._logins) + 64:
                self._ends = [(login.until, login.key) for login in self._logins.values()]
                heapify(self._ends)

    def _capped(self, until: float, now: float) -> float:
        return until if self._max_age is None else min(until, now + self._max_age)
