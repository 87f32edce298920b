"""The store that uses Redis while it is usable, and this process's memory while it is not.

No request waits for a Redis that is known to be unusable. What the lack of an answer means for a
request is the business of `outage`.
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
from sidecar.sessions.revocation.entry import Entry, EntryKind
from sidecar.sessions.revocation.journal import Journal
from sidecar.sessions.tiered.backlog import Backlog
from sidecar.sessions.tiered.denylist import NEAR_HIT, NEAR_MISS, TieredRevocations
from sidecar.sessions.tiered.health import RedisHealth
from sidecar.sessions.tiered.last_seen import record_last_seen
from sidecar.sessions.tiered.listings import TieredListings
from sidecar.sessions.tiered.refresh_tokens import TieredRefreshTokens
from sidecar.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    from sidecar.auth.session import Grant, Session
    from sidecar.sessions.redis.tracking import Connect
    from sidecar.sessions.revocation.denylist import OwnTokens
    from sidecar.sessions.store import SharedStore
    from sidecar.sessions.tiered.breaker import Breaker
    from sidecar.sessions.tiered.health import StoreMetrics

T = TypeVar("T")


class TieredStore:
    """A `SessionStore` over a shared one. `start` it before use. It owns `remote` and closes it.

    `max_sessions` bounds what is kept in memory. For `max_stale` seconds after Redis confirmed a
    session, the session is usable without Redis. No credential lives longer than `max_ttl`
    seconds. `clock` returns seconds since the epoch, `monotonic` measures time that passed,
    `jitter` returns numbers in [0, 1). With `migrate`, logins that began here without Redis are
    written to it on recovery. `own` gives the revocations that a logout adds to the denylist.
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
        self._remote, self._breaker = remote, breaker
        self._lookups = metrics.lookups
        for source_and_result in (HIT, MISS, NEAR_HIT, NEAR_MISS):
            self._lookups.setdefault(source_and_result, 0)
        self._known = KnownSessions(
            clock, monotonic, own, max_sessions=max_sessions, max_stale=max_stale, max_ttl=max_ttl
        )
        remote.set_observer(self._known)
        self.near = self._known.near  # for its metrics
        self.set_change_listener = self._known.set_change_listener
        self._near_peek = self.near.peek
        self.tracking: Tracking | None = None
        if connect is not None:
            self.tracking = Tracking(
                self.near, connect, remote.read_through, remote.names, sleep=sleep, jitter=jitter
            )
        self._tasks = Tasks()
        journal = Journal() if journal is None else journal
        self._backlog = Backlog(remote, self._known, journal, clock)
        self._clock, self._sleep, self._max_ttl, self._migrate = clock, sleep, max_ttl, migrate
        self._health = RedisHealth(
            *(breaker, metrics, remote.ping, self._backlog.replay, self._on_health_change),
            server=remote.server,
            clock=clock,
            monotonic=monotonic,
            sleep=sleep,
            jitter=jitter,
        )
        listings = TieredListings(remote, self._known, self._health.run)
        self.login_of, self.sessions_of = listings.login_of, listings.sessions_of
        self.login_times = listings.login_times
        self.revocations = TieredRevocations(
            *(remote.revocations, self._known, self._backlog, self._tasks, self._lookups),
            look_up=self._health.look_up,
            run_on_redis=self._health.run,
            request_replay=self._health.request_replay,
        )

        refreshing = TieredRefreshTokens(remote, self._known, self._backlog, self._health)
        self.get_refresh, self.claim_refresh = refreshing.get, refreshing.claim
        self.count_repeat, self.generation_of = refreshing.count_repeat, refreshing.generation_of

    def __repr__(self) -> str:
        return (
            f"<TieredStore {self._breaker.state}, {self._known!r}, {len(self._backlog)} unreplayed>"
        )

    @property
    def outage_confirmed(self) -> bool:
        """Whether Redis is known to be away, and not just slow for a moment."""
        return self._health.confirmed

    @property
    def transitions(self) -> Sequence[Mapping[str, Any]]:
        """The latest changes between Redis and memory, oldest first."""
        return list(self._health.transitions)

    def describe(self) -> dict[str, Any]:
        """The store's state, for `/status`. `unreplayed` counts what Redis has missed."""
        return {
            "kind": "tiered",
            "breaker": str(self._breaker.state),
            "redis": self._health.describe(),
            **self._known.describe(),
            "unreplayed": len(self._backlog),
        }

    async def start(self) -> None:
        """Probe Redis, and watch it from now on. An unreachable Redis is not an error."""
        for entry in self._backlog.journal.pending():
            self._known.restore(entry)
        await self._health.start()
        if self.tracking is not None:
            self._on_health_change()
            self._tasks.spawn(self.tracking.run(), "redis tracking")
            seen = record_last_seen(self.near, self._remote, self._clock, self._sleep)
            self._tasks.spawn(seen, "last seen")

    async def close(self) -> None:
        """End background work and close the shared store."""
        await self._health.close()
        await self._tasks.close()
        await self._backlog.journal.close()
        await self._remote.close()

    def peek(self, token_id: str) -> Session | None:
        """The session, if it is certain without asking. None while Redis is not in use."""
        session = self._near_peek(token_id)
        if session is not None:
            self._lookups[NEAR_HIT] += 1
        elif not self.degraded:
            session = self._known.local_only.peek(token_id)
            if session is not None:
                self._lookups[HIT] += 1
        return session

    def last_known(self, token_id: str) -> Session | None:
        """The session as this process last knew it."""
        session = self._known.last_known(token_id)
        self._lookups[MISS if session is None else HIT] += 1
        return session

    def is_ended(self, session: Session) -> bool:
        """Whether this session, its login, or all of its user's logins were ended here."""
        return self._known.session_unless_ended(session) is None

    @property
    def reports_changes(self) -> bool:
        """Whether Redis reports every change now."""
        return self.near.complete

    async def token_of(self, sid: str) -> str | None:
        """The current token id of a login that this process or Redis has, or None."""
        if self._known.is_sid_ended(sid):
            return None
        local_only = await self._known.local_only.token_of(sid)
        return local_only or await self._health.run(self._remote.token_of(sid))

    async def get(self, token_id: str) -> Session | None:
        """The live session, or None. Raises StoreUnavailable."""
        session = self.peek(token_id)
        if session is not None:
            return session
        if self.near.coherent:
            self._lookups[NEAR_MISS] += 1
        session = await self._health.look_up(self._remote.get(token_id))
        return self._known.session_unless_ended(session)

    async def write(self, grant: Grant) -> bool:
        """Write a grant to Redis, or to memory while Redis accepts no writes."""
        sid = grant.session.sid
        attempt = self._known.grant_for_redis(grant)
        if self._backlog.has_grants(sid):
            return self._write_local(grant, grant)
        if not self._breaker.closed:
            return self._write_local(grant, attempt if self._migrate else None)
        try:
            live = await self._remote.write(attempt)
        except RedisUnavailable as unavailable:
            self._health.failed(unavailable, writing=True)
            sent = unavailable.fault not in UNSENT
            return self._write_local(grant, attempt if self._migrate or sent else None, sent=sent)
        self._health.write_succeeded()
        if not live:
            self._known.forget(sid)
        elif self._known.is_grant_ended(grant):  # meanwhile; Redis may have either order
            await self._revoke_remote(EntryKind.SESSION, sid, self._remote.revoke_session)
            live = False
        else:
            self._known.record_written(grant)
            self._backlog.record_written(grant)
        return live

    async def revoke_session(self, sid: str) -> bool:
        """End one login: here at once, and in Redis now or later. True if it existed."""
        local = self._is_local(sid)
        known = self._known.end_session(sid)
        self._backlog.forget(sid)
        revoke = self._remote.revoke_session
        return await self._revoke_remote(EntryKind.SESSION, sid, revoke, local=local) or known

    async def revoke_token(self, token_id: str) -> bool:
        """End the credential under this id, and its login. True if it existed.

        Raises StoreUnavailable for a credential that is unknown here and that Redis may know, if
        too many such are kept already: anyone can make them up.
        """
        session, now = self._known.last_known(token_id), self._clock()
        kept = self._known.is_token_ended(token_id)  # from an earlier logout, which was real
        local = self._is_local(session.sid if session else "")
        known = self._known.end_token(token_id)
        self._backlog.forget(session.sid if session else "")
        try:
            existed = await self._health.run(self._remote.revoke_token(token_id), writing=True)
        except StoreUnavailable:
            if not known and self._backlog.journal.is_half_full:
                if not kept:
                    self._known.forget_token(token_id)
                raise
            await self._enqueue(EntryKind.TOKEN, token_id, now, local=local)
            return known
        if not (existed or known or kept):
            self._known.forget_token(token_id)
        return existed or known

    async def revoke_user(self, sub: str) -> int:
        """End every login of a user. Returns how many there were, as far as known."""
        known, unshared = self._known.end_user(sub)
        self._backlog.forget_user(sub)
        revoke = partial(self._remote.revoke_user, also=known)
        revoked = await self._revoke_remote(EntryKind.USER, sub, revoke)
        if revoked is None:  # also each login by sid: if this clock is behind, the time spares them
            await asyncio.gather(*(self._enqueue(EntryKind.SESSION, sid) for sid in known))
            return len(known)
        return revoked + len(unshared)

    def _on_health_change(self) -> None:
        """Redis became unusable, or is in use again."""
        self.degraded = self._health.degraded
        if self.degraded:
            self.near.end_epoch()
            self._backlog.mark_incomplete()
        if self.tracking is None:
            return
        if self.degraded:
            self.tracking.pause()
        else:
            self.tracking.resume()

    def _write_local(self, grant: Grant, unreplayed: Grant | None, *, sent: bool = False) -> bool:
        """Keep a grant in memory. `unreplayed` is what must still be written to Redis."""
        if not self._known.write_local(grant):
            return False
        if unreplayed is not None:
            self._backlog.enqueue_grant(unreplayed, sent=sent)
            self._health.request_replay()
        return True

    def _is_local(self, sid: str) -> bool:
        """Whether Redis has never had anything of this login, as far as known."""
        login = self._known.local_only.login(sid)
        return login is not None and not login.adopted and not self._backlog.is_sent(sid)

    async def _revoke_remote(
        self,
        kind: EntryKind,
        name: str,
        revoke: Callable[[str], Coroutine[Any, Any, T]],
        *,
        local: bool = False,
    ) -> T | None:
        """Revoke in Redis. None if that failed: the journal then keeps the revocation."""
        now = self._clock()
        try:
            return await self._health.run(revoke(name), writing=True)
        except StoreUnavailable:
            await self._enqueue(kind, name, now, local=local)
            return None

    async def _enqueue(
        self, kind: EntryKind, name: str, at: float | None = None, *, local: bool = False
    ) -> None:
        # Redis does not need to know that, and who logs in often must not fill the journal.
        if local and self.degraded and self._backlog.journal.is_half_full:
            return
        at = self._clock() if at is None else at
        self._health.request_replay()
        await self._backlog.journal.add(Entry(kind, name, at, at + self._max_ttl))
