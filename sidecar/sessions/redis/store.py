"""The session store in Redis. Look-ups are batched, and stored values are validated.

Raises RedisUnavailable for every fault. `tiered` decides what to answer instead of Redis.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sidecar.auth.session import SessionKey, Unreadable
from sidecar.sessions.listing import PAGE
from sidecar.sessions.redis import login_hash
from sidecar.sessions.redis.batches import LookupBatcher
from sidecar.sessions.redis.denylist import RedisRevocations
from sidecar.sessions.redis.faults import Fault, RedisUnavailable
from sidecar.sessions.redis.key_names import DEFAULT_PREFIX, KeyNames, octets
from sidecar.sessions.redis.keyspace import LISTED, Keyspace
from sidecar.sessions.redis.last_seen import LastSeenWriter
from sidecar.sessions.redis.link import RedisLink
from sidecar.sessions.redis.listings import RedisListings
from sidecar.sessions.redis.server_name import name_of
from sidecar.sessions.redis.session_values import SessionValues
from sidecar.sessions.redis.stored_values import StoredValues
from sidecar.sessions.revocation.denylist import OwnTokens

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from redis.asyncio import Redis

    from sidecar.auth.session import Grant, RefreshRecord, Session, SessionInfo
    from sidecar.auth.value_mac import ValueMac
    from sidecar.sessions.listing import Position
    from sidecar.sessions.redis.login_hash import CurrentGrant
    from sidecar.sessions.redis.tracked_reads import TrackedReads
    from sidecar.sessions.store import LookupMetrics, LookupObserver

T = TypeVar("T")

_NO_FIELDS: Final[tuple[bytes | None, bytes | None]] = (None, None)

logger = logging.getLogger("sidecar.sessions")


class RedisStore:
    """A `SessionStore` on a Redis client that returns bytes. It owns the client, and closes it.

    `mac` signs and verifies every value that decides something. `prefix` precedes every key.
    `timeout` is the total for each operation, in seconds. No key outlives `max_ttl` seconds. With
    `SessionKey.TOKEN`, any value under a token's key is a live session. The time at which a login
    was last seen is written at most every `touch_every` seconds. `own` gives the revocations that
    a logout adds to the denylist. `clock` returns seconds since the epoch.
    """

    degraded: bool = False
    outage_confirmed: bool = False
    reports_changes: bool = False  # `Tracking` reports them, to the near cache
    transitions: Final[Sequence[Mapping[str, Any]]] = ()

    def __init__(
        self,
        client: Redis,
        metrics: LookupMetrics,
        mac: ValueMac,
        *,
        prefix: str = DEFAULT_PREFIX,
        clock: Callable[[], float] = time.time,
        timeout: float = 0.1,
        max_ttl: float = 7 * 86400.0,
        session_key: SessionKey = SessionKey.SHA256,
        slots: int = 8,
        touch_every: float = 300.0,
        own: OwnTokens | None = None,
    ) -> None:
        self.server = name_of(client)  # for logs
        self._metrics, self._clock, self._session_key = metrics, clock, session_key
        self.names = KeyNames(prefix, mac.realm)
        self._values = StoredValues(mac, metrics, clock)
        self.keys = Keyspace(self.names, self._values, clock, max_ttl)
        self._sessions = SessionValues(self.names, self._values, mac, session_key)
        self._link = RedisLink(client, timeout=timeout, slots=slots)
        self._listings = RedisListings(self.keys, clock)
        self._last_seen = LastSeenWriter(self._link, self.keys, clock, touch_every)
        self._own = OwnTokens() if own is None else own
        self.revocations = RedisRevocations(self._link, self.names, self._values, metrics, clock)
        self._observer: LookupObserver | None = None
        self._reads: TrackedReads | None = None
        # If there are several slots, look-ups leave one to logins and logouts.
        parallel = max(1, self._link.slots - 1)
        self._lookups = LookupBatcher(self._fetch, self._link.tasks, parallel=parallel)

    def __repr__(self) -> str:
        return f"<RedisStore by {self._session_key} on {self._link!r}>"

    async def start(self) -> None:
        """Do nothing: the client connects on first use."""

    def describe(self) -> dict[str, Any]:
        """The store's state, for `/status`."""
        return {"kind": "redis"}

    def set_observer(self, observer: LookupObserver) -> None:
        """Report every look-up to `observer`."""
        self._observer = self.revocations.observer = observer

    def read_through(self, reads: TrackedReads | None) -> None:
        """Make look-ups through these reads; None restores the store's own client."""
        self._reads = self.revocations.reads = reads

    def peek(self, token_id: str) -> Session | None:
        """None: this store keeps nothing in memory."""
        return None

    def last_known(self, token_id: str) -> Session | None:
        """None: this store keeps nothing in memory."""
        return None

    def is_ended(self, session: Session) -> bool:
        """False: this store keeps nothing in memory."""
        return False

    def set_change_listener(self, listener: Callable[[str | None], None]) -> None:
        """Do nothing: this store reports no changes."""

    async def token_of(self, sid: str) -> str | None:
        """The current token id of a login, or None."""
        current = await self._current(sid)
        return None if current is None else current.token

    async def get(self, token_id: str) -> Session | None:
        """The live session under this token id, or None."""
        return await self._lookups.ask(token_id)

    async def ping(self) -> None:
        """Send a small look-up, which no other operation delays. Raises RedisUnavailable."""
        work = partial(self.keys.read_tokens, [""])
        await self._link.detached(self._link.probe(work), "redis probe")

    async def write(self, grant: Grant) -> bool:
        """Write everything that one login or refresh grants, then end the token it replaces."""
        try:
            live, used = await self._run(partial(self.keys.write, grant), "session write")
        finally:
            self._last_seen.mark_written(grant.session.sid)
            for token_id in (grant.session.id, grant.replaces, grant.ends):
                self._lookups.invalidate(token_id or "")
        refresh_id = grant.refresh_id or ""
        if used and (record := await self.get_refresh(refresh_id)) is not None:  # it came late
            work = partial(self.keys.expire_refresh, refresh_id, record.exp)
            await self._run(work, "refresh expiry")
        return live

    async def get_refresh(self, refresh_id: str) -> RefreshRecord | None:
        """The record of a refresh token, live or used, or None."""
        work = partial(self.keys.read_refresh, refresh_id)
        record, used = await self._run_on_hash(work, "refresh look-up", _NO_FIELDS)
        return self._sessions.record(refresh_id, record, used)

    async def generation_of(self, sid: str) -> int | None:
        """How often a live login has been refreshed, or None."""
        current = await self._current(sid)
        return None if current is None else current.generation

    async def count_repeat(self, refresh_id: str, used: RefreshRecord) -> int | None:
        """Count a repeat of a used token. Returns how many there were; None if it is unknown."""
        work = partial(self.keys.count_repeat, refresh_id, used.exp)
        return await self._run_on_hash(work, "refresh repeat", None)

    async def claim_refresh(self, refresh_id: str, used: RefreshRecord) -> RefreshRecord | None:
        """Replace a live record by `used`, in one atomic step. Returns the previous record."""
        value = self._sessions.used(refresh_id, used)
        work = partial(self.keys.claim, refresh_id, value, used.exp)
        record, current = await self._run_on_hash(work, "refresh claim", _NO_FIELDS)
        return self._sessions.record(refresh_id, record, None if current == value else current)

    async def revoke_session(self, sid: str) -> bool:
        """End one login. True if it existed."""
        return await self._run(partial(self._end, [octets(sid)], None), "logout") > 0

    async def revoke_token(self, token_id: str) -> bool:
        """End the credential under this id, and its login. True if it existed."""
        try:
            return await self._run(partial(self._end_token, token_id), "logout")
        finally:
            self._lookups.invalidate(token_id)

    async def revoke_user(
        self, sub: str, before: float | None = None, also: Iterable[str] = ()
    ) -> int:
        """End a user's logins; with `before`, only those that began before that time.

        `also` are sids of this user that are ended whether they are listed or not. Returns how many
        logins there were.
        """
        now = self._clock()
        await self.revocations.revoke(
            self._own.of_user(sub, now if before is None else before, now)
        )
        work = self._end_user(self.names.user(sub), before, list(map(octets, also)))
        return await self._link.detached(work, "logout of all")

    async def login_of(self, sub: str, sid: str) -> SessionInfo | None:
        """The login under this sid if it is one of the user's live logins."""
        work = partial(self._listings.login, sub, sid)
        return await self._run_on_hash(work, "login look-up", None)

    async def sessions_of(
        self, sub: str, after: Position | None = None, limit: int = PAGE
    ) -> list[SessionInfo]:
        """The first `limit` of the user's live logins after this position, newest first."""
        nothing: list[SessionInfo] = []
        work = partial(self._listings.page, sub, after, limit)
        return await self._run_on_hash(work, "session listing", nothing)

    async def login_times(self, sub: str, *, above: int) -> dict[str, float]:
        """When each of the user's live logins began, by sid; empty unless more than `above`."""
        return await self._listings.times(sub, above, self._run_on_hash)

    async def close(self) -> None:
        """Close every connection and cancel running operations."""
        self._lookups.close()
        self.revocations.close()
        await self._link.close()

    async def _current(self, sid: str) -> CurrentGrant | None:
        """What the last grant of a live login issued, or None."""
        work = partial(self.keys.read_current, octets(sid))
        return await self._run_on_hash(work, "login look-up", None)

    async def _run(self, work: Callable[[Redis], Awaitable[T]], name: str) -> T:
        """Run `work` on the link, in a task that the caller cannot cancel."""
        return await self._link.detached(self._link.run(work), name)

    async def _run_on_hash(self, work: Callable[[Redis], Awaitable[T]], name: str, absent: T) -> T:
        """Run `work` on a hash or sorted set. Returns `absent` if the key holds another type."""
        try:
            return await self._run(work, name)
        except RedisUnavailable as unavailable:
            if unavailable.fault is not Fault.WRONG_TYPE:
                raise
            self._values.count(1, "unreadable")
            return absent

    async def _fetch(self, token_ids: Sequence[str], since: float) -> list[Session | None]:
        observer = self._observer
        if observer is None:
            return await self._look_up(token_ids, since)
        lookup = observer.begin_lookup()
        try:
            sessions = await self._look_up(token_ids, since)
            found = zip(token_ids, sessions, strict=True)
            sessions = [observer.record_session(*each, lookup) for each in found]
        finally:
            observer.end_lookup(lookup)
        return sessions

    async def _look_up(self, token_ids: Sequence[str], since: float) -> list[Session | None]:
        work = partial(self.keys.read_tokens, token_ids, reads=self._reads)
        try:
            values = await self._link.run(work, waited=time.perf_counter() - since)
        except RedisUnavailable as unavailable:
            self._values.count(len(token_ids), unavailable.fault)
            raise
        finally:
            took = time.perf_counter() - since
            observe = self._metrics.lookup_duration["redis"].observe
            for _ in token_ids:
                observe(took)
        found = [
            None if value is None else self._sessions.session(token_id, value)
            for token_id, value in zip(token_ids, values, strict=True)
        ]
        sessions = [None if isinstance(each, Unreadable) else each for each in found]
        self._values.count(values.count(None), "miss")
        self._values.count(len(values) - sessions.count(None), "hit")
        self._last_seen.add({session.sid for session in sessions if session is not None})
        return sessions

    async def _end(self, sids: Sequence[bytes], user: bytes | None, redis: Redis) -> int:
        own = self._own.of_logins(map(login_hash.text_of, sids), self._clock())
        await self.revocations.write_all(own, redis)
        logins = await self.keys.end(sids, user, redis)
        for token in chain.from_iterable(each.tokens for each in chain.from_iterable(logins)):
            self._lookups.invalidate(token)
        return len(logins) - logins.count([])

    async def _end_token(self, token_id: str, redis: Redis) -> bool:
        (value,) = await self.keys.read_tokens([token_id], redis)
        found = None if value is None else self._sessions.session(token_id, value)
        if found is Unreadable.BAD_MAC:  # not valid here, and perhaps another realm's
            return False
        session = None if isinstance(found, Unreadable) else found
        if session is not None and session.sid:
            await self._end([octets(session.sid)], None, redis)
        await self.keys.drop_token(token_id, redis)
        return session is not None

    async def _end_user(self, user: bytes, before: float | None, sids: list[bytes]) -> int:
        ended = 0
        while True:
            while sids:
                ended += await self._link.run(partial(self._end, sids[:LISTED], user))
                sids = sids[LISTED:]
            try:
                sids = await self._link.run(partial(self.keys.next_sids, user, before))
            except RedisUnavailable as unavailable:
                if unavailable.fault is not Fault.WRONG_TYPE:
                    raise
                self._values.count(1, "unreadable")
                return ended
            if not sids:
                return ended

    async def touch(self, sids: Sequence[str]) -> None:
        """Record that these logins were seen now, unless that was recorded recently."""
        await self._last_seen.write(sids)
