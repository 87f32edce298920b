"""Redis for as long as it can be used, this process' memory while it cannot.

What it means for a request that Redis cannot be asked is `outage`'s business. No request waits for
a Redis that is known to be away.
"""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from sidecar.errors import StoreUnavailable
from sidecar.sessions.memory.known import KnownSessions
from sidecar.sessions.memory.local import HIT, MISS
from sidecar.sessions.redis.faults import UNSENT, RedisUnavailable
from sidecar.sessions.redis.tracking import Tracking
from sidecar.sessions.revocation.journal import Entry, Journal, Kind
from sidecar.sessions.tiered.backlog import Backlog
from sidecar.sessions.tiered.denylist import NEAR_HIT, NEAR_MISS, TieredRevocations
from sidecar.sessions.tiered.health import RedisHealth
from sidecar.sessions.tiered.seen import keep_seen
from sidecar.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    from sidecar.auth.session import Grant, RefreshRecord, Session, SessionInfo
    from sidecar.sessions.redis.tracking import Connect
    from sidecar.sessions.revocation.denylist import OwnTokens
    from sidecar.sessions.store import SharedStore
    from sidecar.sessions.tiered.breaker import Breaker
    from sidecar.sessions.tiered.health import StoreMetrics

T = TypeVar("T")


class TieredStore:
    """A `SessionStore` over a shared one. `start` it before use; it owns `remote` and closes it.

    `max_sessions` bounds what is kept here, `max_stale` (seconds) how long what Redis has confirmed
    is good without it; `max_ttl` is the longest that any credential lives. `clock` gives seconds
    since the epoch, `monotonic` those that pass, `jitter` numbers in [0, 1). With `migrate`,
    what began here without Redis is written there when it is back. `own` is as `LocalStore`'s.
    """

    def __init__(
        self,
        remote: SharedStore,
        breaker: Breaker,
        metrics: StoreMetrics,
        *,
        max_sessions: int = 100_000,
        max_stale: float = 3600.0,
        max_ttl: float = 7 * 86400.0,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
        connect: Connect | None = None,
        journal: Journal | None = None,
        migrate: bool = False,
        own: OwnTokens | None = None,
    ) -> None:
        self.degraded = False  # whether Redis is not in use
        self._remote = remote
        self._breaker = breaker
        self._lookups = metrics.lookups
        for one in (HIT, MISS, NEAR_HIT, NEAR_MISS):
            self._lookups.setdefault(one, 0)
        self._known = KnownSessions(
            clock, monotonic, own, max_sessions=max_sessions, max_stale=max_stale, max_ttl=max_ttl
        )
        remote.observe(self._known)
        self.near = self._known.near  # for its figures
        self.on_ended = self._known.on_ended
        self._near_peek = self.near.peek
        self._tracking = (
            Tracking(self._known.near, connect, remote.read_through, sleep=sleep)
            if connect is not None
            else None
        )
        self._tasks = Tasks()
        journal_in_use = Journal() if journal is None else journal
        self._backlog = Backlog(remote, self._known, journal_in_use, clock)
        self._clock, self._sleep = clock, sleep
        self._max_ttl, self._migrate = max_ttl, migrate
        self._health = RedisHealth(
            breaker,
            metrics,
            remote.ping,
            self._backlog.replay,
            self._on_change,
            clock=clock,
            monotonic=monotonic,
            sleep=sleep,
            jitter=jitter,
        )
        self.revocations = TieredRevocations(
            *(remote.revocations, self._known, self._backlog, self._tasks, self._lookups),
            on_redis=self._on_redis,
            request_replay=self._health.request_replay,
        )

    def __repr__(self) -> str:
        return (
            f"<TieredStore {self._breaker.state}, {self._known!r}, {len(self._backlog)} unsettled>"
        )

    @property
    def transitions(self) -> Sequence[Mapping[str, Any]]:
        """The last changes between Redis and what is known here alone, the newest last."""
        return list(self._health.transitions)

    async def start(self) -> None:
        """See if Redis is there, and watch it from here on. That it is absent is no error."""
        for entry in self._backlog.journal.pending():
            self._known.hold(entry)
        await self._health.start()
        if self._tracking is not None:
            self._on_change()
            self._tasks.spawn(self._tracking.run(), "redis tracking")
            seen = keep_seen(self._known.near, self._remote, self._clock, self._sleep)
            self._tasks.spawn(seen, "sessions seen")

    async def close(self) -> None:
        """End the watch, close the shared store."""
        await self._health.close()
        await self._tasks.close()
        await self._backlog.journal.close()
        await self._remote.close()

    def peek(self, token_id: str) -> Session | None:
        """The session, if that is certain without asking; never while Redis is away."""
        session = self._near_peek(token_id)
        if session is not None:
            self._lookups[NEAR_HIT] += 1
        elif not self.degraded:
            session = self._known.local_only.peek(token_id)
            if session is not None:
                self._lookups[HIT] += 1
        return session

    def known(self, token_id: str) -> Session | None:
        """The session, as far as this process knows by itself."""
        session = self._known.peek(token_id)
        self._lookups[MISS if session is None else HIT] += 1
        return session

    def ended_here(self, session: Session) -> bool:
        """Whether this session, its login, or all of its user's logins were ended here."""
        return self._known.unless_revoked(session) is None

    @property
    def tells(self) -> bool:
        """Whether Redis tells of changes."""
        return self._known.near.coherent

    async def token_of(self, sid: str) -> str | None:
        """The id of the token that a login has now; here alone, or in Redis."""
        if self._known.tombstones.is_login_ended(sid, "", float("inf"), self._clock()):
            return None
        local_only = await self._known.local_only.token_of(sid)
        return local_only or await self._on_redis(self._remote.token_of(sid))

    async def get(self, token_id: str) -> Session | None:
        """The live session, or None."""
        session = self.peek(token_id)
        if session is not None:
            return session
        if self._known.near.coherent:
            self._lookups[NEAR_MISS] += 1
        return self._known.unless_revoked(await self._on_redis(self._remote.get(token_id)))

    async def write(self, grant: Grant) -> bool:
        """Write all of one login or refresh: into Redis, or here while Redis takes none."""
        sid = grant.session.sid
        attempt = self._known.as_redis_knows_it(grant)
        if self._backlog.holds(sid):
            return self._write_here(grant, grant)
        if not self._breaker.closed:
            return self._write_here(grant, attempt if self._migrate else None)
        try:
            live = await self._remote.write(attempt)
        except RedisUnavailable as unavailable:
            self._health.failed(unavailable, writing=True)
            missed = self._migrate or unavailable.fault not in UNSENT
            return self._write_here(grant, attempt if missed else None)
        self._health.written()
        if not live:
            self._known.forget(sid)
        elif self._known.has_ended(grant):  # meanwhile; Redis may have got these in any order
            await self._revoked(Kind.SESSION, sid, self._remote.revoke_session)
            live = False
        else:
            self._known.written(grant)
        return live

    async def get_refresh(self, refresh_id: str) -> RefreshRecord | None:
        """The record of a refresh token; what was done here without Redis counts first.

        Raises StoreUnavailable for one that only Redis may know: a client that is told that its
        token is no good throws it away.
        """
        record = self._known.local_only.refresh_record(refresh_id)
        if record is not None:
            return self._known.unless_ended(record)
        try:
            record = await self._on_redis(self._remote.get_refresh(refresh_id))
        except StoreUnavailable:
            record = self._known.cached.refresh_record(refresh_id)
            if record is None:
                raise
        return self._known.unless_ended(record)

    async def claim_refresh(self, refresh_id: str, used: RefreshRecord) -> RefreshRecord | None:
        """Put `used` in place of a live record; what was there before. As `get_refresh`."""
        if self._known.local_only.refresh_record(refresh_id) is not None:
            return self._known.claim(refresh_id, used)
        try:
            record = await self._on_redis(
                self._remote.claim_refresh(refresh_id, used), writing=True
            )
        except StoreUnavailable:
            if self._known.cached.refresh_record(refresh_id) is None:
                raise
            record = self._known.claim(refresh_id, used)
            if record is not None and record.used_at is None:
                self._backlog.claim(refresh_id, used)
                self._health.request_replay()
            return record
        self._known.cached.claim(refresh_id, used)
        return self._known.unless_ended(record)

    async def revoke_session(self, sid: str) -> bool:
        """End one login: here at once, and in Redis if that can be. True if there was one."""
        here = self._known.end_session(sid)
        self._backlog.forget(sid)
        return await self._revoked(Kind.SESSION, sid, self._remote.revoke_session) or here

    async def revoke_token(self, token_id: str) -> bool:
        """End the credential under this id, and its login. True if there was one."""
        session = self._known.peek(token_id)
        here = self._known.end_token(token_id)
        self._backlog.forget(session.sid if session else "")
        return await self._revoked(Kind.TOKEN, token_id, self._remote.revoke_token) or here

    async def revoke_user(self, sub: str) -> int:
        """End every login of a user; how many there were, as far as known."""
        known, alone = self._known.end_user(sub)
        self._backlog.forget_user(sub)
        there = await self._revoked(Kind.USER, sub, partial(self._remote.revoke_user, also=known))
        if there is None:  # by their names, too: a clock that is behind would spare them
            await asyncio.gather(*(self._enqueue(Kind.SESSION, sid) for sid in known))
            return len(known)
        return there + len(alone)

    async def sessions_of(self, sub: str) -> list[SessionInfo]:
        """The user's live logins, newest first; while Redis is away, those known here."""
        try:
            there = await self._on_redis(self._remote.sessions_of(sub))
        except StoreUnavailable:
            return self._known.listing(sub, cached=True)
        return self._known.merged(sub, there)

    def _on_change(self) -> None:
        """Redis went away, or came back."""
        self.degraded = self._health.degraded
        if self.degraded:
            self._known.near.lose()
            self._backlog.mark_incomplete()
        if self._tracking is None:
            return
        if self.degraded:
            self._tracking.pause()
        else:
            self._tracking.resume()

    def _write_here(self, grant: Grant, unsettled: Grant | None) -> bool:
        """Keep a grant here. `unsettled` is what Redis may have got of it."""
        if not self._known.write(grant):
            return False
        if unsettled is not None:
            self._backlog.add(unsettled)
            self._health.request_replay()
        return True

    async def _on_redis(self, work: Coroutine[Any, Any, T], *, writing: bool = False) -> T:
        """Have Redis do it. Raises StoreUnavailable, at once while it is known to be away."""
        if not self._breaker.closed:
            work.close()
            raise StoreUnavailable("redis is known to be away")
        try:
            outcome = await work
        except RedisUnavailable as unavailable:
            self._health.failed(unavailable, writing=writing)
            raise
        if writing:
            self._health.written()
        else:
            self._health.succeeded()
        return outcome

    async def _revoked(
        self, kind: Kind, what: str, revoke: Callable[[str], Coroutine[Any, Any, T]]
    ) -> T | None:
        """Revoke it in Redis too. None if that could not be done now: then it is journal_in_use."""
        now = self._clock()
        try:
            return await self._on_redis(revoke(what), writing=True)
        except StoreUnavailable:
            await self._enqueue(kind, what, now)
            return None

    async def _enqueue(self, kind: Kind, what: str, at: float | None = None) -> None:
        at = self._clock() if at is None else at
        self._health.request_replay()
        await self._backlog.journal.add(Entry(kind, what, at, at + self._max_ttl))
