"""Sessions in this process's memory: the store of a single pod, and the fallback in an outage.

Bounded, and every entry expires. Does no I/O and never waits, so every method is atomic. Pure;
knows nothing of Redis.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sidecar.auth.session import USED_KEPT
from sidecar.sessions.coherence import ignore_change
from sidecar.sessions.memory.listings import LocalListings
from sidecar.sessions.memory.login import Login
from sidecar.sessions.memory.login_table import LoginTable
from sidecar.sessions.memory.refresh_records import RefreshRecords
from sidecar.sessions.memory.replaced_tokens import ReplacedTokens
from sidecar.sessions.revocation.denylist import LocalRevocations, OwnTokens, RevocationTable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sidecar.auth.session import Grant, RefreshRecord, Session

HIT: Final = ("local", "hit")
MISS: Final = ("local", "miss")


class LocalStore:
    """A `SessionStore` of at most `max_sessions` logins, none kept longer than `max_age` seconds.

    A full store evicts expired logins first. After that, a login that begins here evicts the oldest
    of the user who has the most, and a copy evicts the oldest that was not used again. `clock`
    returns seconds since the epoch; `lookups` counts look-ups by (source, result); `own` gives the
    revocations that a logout adds to the denylist.
    """

    degraded: Final = False
    outage_confirmed: Final = False
    reports_changes: Final = True  # no other process can change these sessions
    transitions: Final[Sequence[Mapping[str, Any]]] = ()

    __slots__ = (
        *("_clock", "_logins", "_lookups", "_max_age", "_own"),
        *("_listener", "_refresh", "_replaced", "_tokens", "revocations"),
        *("info_of", "listing", "login_of", "login_times", "sessions_of"),
    )

    def __init__(
        self,
        clock: Callable[[], float],
        max_sessions: int = 100_000,
        *,
        max_age: float | None = None,
        lookups: dict[tuple[str, str], int] | None = None,
        own: OwnTokens | None = None,
    ) -> None:
        self._clock = clock
        self._max_age = max_age
        self._own = OwnTokens() if own is None else own
        self._listener: Callable[[str | None], None] = ignore_change
        self.revocations = LocalRevocations(RevocationTable(clock, max_sessions))
        self._lookups = {} if lookups is None else lookups
        self._lookups.setdefault(HIT, 0)
        self._lookups.setdefault(MISS, 0)
        self._logins = LoginTable(max_sessions)
        self._tokens: dict[str, Login] = {}
        self._replaced = ReplacedTokens(self._tokens)
        listings = LocalListings(self._logins, clock)
        self.info_of, self.login_of = listings.info_of, listings.login_of
        self.listing, self.sessions_of = listings.listing, listings.sessions_of
        self.login_times = listings.login_times
        self._refresh = RefreshRecords(max_sessions * (USED_KEPT + 1))

    def __repr__(self) -> str:
        return (
            f"<LocalStore {len(self._logins)} of {self._logins.limit} logins,"
            f" {len(self._refresh)} refresh records>"
        )

    def __len__(self) -> int:
        return len(self._logins)

    async def start(self) -> None:
        """Do nothing: the store has no background work."""

    def describe(self) -> dict[str, Any]:
        """The store's state, for `/status`."""
        return {
            "kind": "local",
            "logins": len(self._logins),
            "max_sessions": self._logins.limit,
            "refresh_records": len(self._refresh),
        }

    def set_change_listener(self, listener: Callable[[str | None], None]) -> None:
        """Call `listener` with the token id of each session that ends; None: any may have."""
        self._listener = listener
        self.revocations.set_listener(partial(listener, None))

    async def token_of(self, sid: str) -> str | None:
        """The current token id of a login, or None."""
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

    def last_known(self, token_id: str) -> Session | None:
        """The live session, or None: this store always knows."""
        return self.peek(token_id)

    def is_ended(self, session: Session) -> bool:
        """False: a session that was ended is no longer in the store."""
        return False

    async def get(self, token_id: str) -> Session | None:
        """The live session, or None."""
        session = self.peek(token_id)
        if session is None:
            self._lookups[MISS] += 1
            self.sweep(self._clock())
        return session

    async def write(self, grant: Grant) -> bool:
        """Write everything that one login or refresh grants, then end the token it replaces."""
        return self.put(grant)

    def put(self, grant: Grant, *, adopt: bool = False) -> bool:
        """Write a grant, without waiting. `adopt` allows a login that began in another store."""
        now = self._clock()
        self.sweep(now)
        login = self._login(grant.session.sid, now)
        if login is None:
            if grant.replaces is not None and not adopt:
                return False
            login = self._begin(grant.session, now, adopted=adopt)
        elif grant.generation < login.generation or (
            grant.generation == login.generation != 0 and grant.session.id != login.session.id
        ):
            return False  # the login has continued without this grant
        login.generation = grant.generation
        if ended := self._replaced.replace(login.key, grant.replaced(now)):
            self._listener(ended)
        self._continue(login, grant.session, now)
        login.user_agent = grant.user_agent or login.user_agent
        login.address = grant.address or login.address
        login.seen = now
        if grant.refresh_id is not None and grant.refresh is not None:
            login.refresh_id = grant.refresh_id
            self.put_refresh(grant.refresh_id, grant.refresh)
        until = grant.refresh.exp if grant.refresh else grant.session.exp
        self._logins.end_at(login, self._capped(until, now))
        return True

    @property
    def tokens(self) -> Mapping[str, Login]:
        """The logins by current token id, including expired ones that are not swept yet."""
        return self._tokens

    def clear(self) -> None:
        """Remove every session and every refresh record."""
        for login in self._logins.everything():
            self.drop(login.key)
        self._refresh.clear()

    def remember(self, session: Session, seen: float | None = None) -> Login | None:
        """Keep a session that another store holds. None if a newer token of its login is known."""
        now = self._clock()
        seen = now if seen is None else seen
        login = self._logins.get(session.sid or session.id)
        if login is None:
            login = self._begin(session, seen, adopted=True)
        else:
            self._logins.move_to_end(login)  # the login seen last is the last to be evicted
            login.unused_since = -1.0
            if login.session.id != session.id and login.session.exp > session.exp:
                return None
        self._continue(login, session, now)
        login.seen = seen
        self._logins.end_at(login, self._capped(max(login.until, session.exp), now))
        return login

    async def get_refresh(self, refresh_id: str) -> RefreshRecord | None:
        """The record of a refresh token, live or used, or None."""
        return self.refresh_record(refresh_id)

    async def generation_of(self, sid: str) -> int | None:
        """How often a live login has been refreshed, or None."""
        return login.generation if (login := self.login(sid)) else None

    def refresh_record(self, refresh_id: str) -> RefreshRecord | None:
        """The record of a refresh token, live or used, or None; without waiting."""
        return self._refresh.get(refresh_id, self._clock())

    def put_refresh(self, refresh_id: str, record: RefreshRecord) -> None:
        """Store a refresh token's record, unless the token is already used."""
        now = self._clock()
        self._refresh.put(refresh_id, record, self._capped(record.exp, now), now)

    async def claim_refresh(self, refresh_id: str, used: RefreshRecord) -> RefreshRecord | None:
        """Replace a live record by `used`. Returns the previous record."""
        return self.claim(refresh_id, used)

    def claim(self, refresh_id: str, used: RefreshRecord) -> RefreshRecord | None:
        """Replace a live record by `used`, without waiting. Returns the previous record."""
        record = self.refresh_record(refresh_id)
        if record is None or record.used_at is not None:
            return record
        self.put_refresh(refresh_id, used)
        login = self._logins.get(record.sid)
        if login is not None:
            for old in login.used[: -USED_KEPT + 1]:
                self._refresh.discard(old)
            login.used = (*login.used[-USED_KEPT + 1 :], refresh_id)
        return record

    async def count_repeat(self, refresh_id: str, used: RefreshRecord) -> int | None:
        """Count a repeat of a used token. Returns how many there were; None if it is unknown."""
        return self.repeated(refresh_id)

    def repeated(self, refresh_id: str) -> int | None:
        """Count a repeat, without waiting."""
        return self._refresh.count_repeat(refresh_id, self._clock())

    async def revoke_session(self, sid: str) -> bool:
        """End one login. True if it existed."""
        await self.revocations.revoke(self._own.of_logins([sid], self._clock()))
        return self.drop(sid)

    def drop(self, key: str) -> bool:
        """Remove one login, without waiting or a revocation. True if it was live."""
        login = self._logins.remove(key)
        if login is None:
            return False
        session = login.session
        self._tokens.pop(session.id, None)
        if ended := self._replaced.end(key):
            self._listener(ended)
        for refresh_id in (login.refresh_id or "", *login.used):
            self._refresh.discard(refresh_id)
        self._listener(session.id)
        return login.until > self._clock()

    async def revoke_token(self, token_id: str) -> bool:
        """End the credential under this id, and its login. True if it existed."""
        login = self._tokens.get(token_id)
        return login is not None and await self.revoke_session(login.key)

    def drop_token(self, token_id: str) -> bool:
        """Remove a token's login, or a replaced token alone. True if a login was live."""
        if self._replaced.drop(token_id):
            return False
        login = self._tokens.get(token_id)
        return login is not None and self.drop(login.key)

    async def revoke_user(self, sub: str) -> int:
        """End every login of a user. Returns how many there were."""
        now, ended = self._clock(), self.drop_user(sub)
        revoked = self._own.of_user(sub, now, now) | self._own.of_logins(ended, now)
        await self.revocations.revoke(revoked)
        return len(ended)

    def drop_user(self, sub: str) -> list[str]:
        """Remove every login of a user. Returns the sids of those that were live."""
        return [login.key for login in self._logins.of(sub) if self.drop(login.key)]

    async def close(self) -> None:
        """Do nothing: the store holds no connections."""

    def login(self, sid: str) -> Login | None:
        """The live login under this sid."""
        return self._login(sid, self._clock())

    def sweep(self, now: float) -> int:
        """Remove every login that has expired. The cost is proportional to the number returned."""
        removed = 0
        self._replaced.sweep(now)
        for login in self._logins.ended(now):
            self.drop(login.key)
            removed += 1
        return removed

    def _login(self, sid: str, now: float) -> Login | None:
        login = self._logins.get(sid)
        return login if login is not None and login.until > now else None

    def _begin(self, session: Session, now: float, *, adopted: bool) -> Login:
        self.drop(session.sid or session.id)  # an expired login that is not swept yet
        if len(self._logins) >= self._logins.limit:
            self.sweep(now)
        # A copy can be read again, so the copies that were used last are worth the most.
        for evicted in self._logins.surplus(spread=not adopted):
            self.drop(evicted.key)
        login = Login(session, unused_since=now, adopted=adopted)
        self._logins.add(login)
        return login

    def _continue(self, login: Login, session: Session, now: float) -> None:
        """Make `session` the login's only current session."""
        if login.session.id != session.id:
            if self._tokens.get(login.session.id) is login:  # otherwise it counts for a while
                del self._tokens[login.session.id]
            self._listener(login.session.id)
        login.session = session
        login.confirmed = 0.0
        login.token_until = self._capped(session.exp, now)
        self._tokens[session.id] = login

    def _capped(self, until: float, now: float) -> float:
        return until if self._max_age is None else min(until, now + self._max_age)
