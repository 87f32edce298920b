"""The session store in Redis: look-ups that share their way, values read with distrust.

Raises RedisUnavailable for every fault and answers nothing in Redis' place: `tiered` does.
"""

from __future__ import annotations

import logging
import secrets
import time
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from sidecar.auth.session import (
    RefreshRecord,
    Session,
    SessionKey,
    Unreadable,
    adopt_session,
    decode_refresh,
    decode_session,
    encode_refresh,
)
from sidecar.sessions.redis import login_hash
from sidecar.sessions.redis.batches import LookupBatcher
from sidecar.sessions.redis.denylist import RedisRevocations
from sidecar.sessions.redis.faults import Fault, RedisUnavailable
from sidecar.sessions.redis.keyspace import LISTED, USER, Keyspace, octets
from sidecar.sessions.redis.last_seen import LastSeenWriter
from sidecar.sessions.redis.link import RedisLink
from sidecar.sessions.revocation.denylist import OwnTokens

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from redis.asyncio import Redis

    from sidecar.auth.session import Grant, SessionInfo
    from sidecar.sessions.store import LookupMetrics, Observer

T = TypeVar("T")

_MARK: Final = 8  # octets of a claim's mark, before the record in `used`
_NO_FIELDS: Final[tuple[bytes | None, bytes | None]] = (None, None)

logger = logging.getLogger("sidecar.sessions")


class RedisStore:
    """A `SessionStore` on a Redis client that returns bytes. It owns the client, and closes it.

    `timeout` is each operation's total, in seconds; no key outlives `max_ttl`. With
    `SessionKey.TOKEN` any value under a token's key is a live session. When a login was seen last
    is written at most every `touch_every` seconds. `own` is as `LocalStore`'s.
    """

    degraded: bool = False
    tells: bool = False  # who reads through a followed connection is told

    def __init__(
        self,
        client: Redis,
        metrics: LookupMetrics,
        *,
        clock: Callable[[], float] = time.time,
        timeout: float = 0.1,
        max_ttl: float = 7 * 86400.0,
        session_key: SessionKey = SessionKey.SHA256,
        slots: int = 8,
        touch_every: float = 300.0,
        own: OwnTokens | None = None,
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._session_key = session_key
        self._read = adopt_session if session_key is SessionKey.TOKEN else decode_session
        self._keys = Keyspace(clock, max_ttl)
        self._link = RedisLink(client, timeout=timeout, slots=slots)
        self._last_seen = LastSeenWriter(self._link, self._keys, clock, touch_every)
        self._own = OwnTokens() if own is None else own
        self.revocations = RedisRevocations(self._link, metrics, clock)
        self._observer: Observer | None = None
        self._reader: Redis | None = None
        # Where there is more than one slot, look-ups leave one to logins and logouts.
        parallel = max(1, self._link.slots - 1)
        self._lookups = LookupBatcher(self._fetch, self._link.tasks, parallel=parallel)

    def __repr__(self) -> str:
        return f"<RedisStore by {self._session_key} on {self._link!r}>"

    def observe(self, observer: Observer) -> None:
        """Tell this one of every look-up."""
        self._observer = self.revocations.observer = observer

    def read_through(self, client: Redis | None) -> None:
        """Look sessions up by this client, or by the store's own."""
        self._reader = self.revocations.reader = client

    def peek(self, token_id: str) -> Session | None:
        """None: nothing is known here without asking."""
        return None

    def known(self, token_id: str) -> Session | None:
        """None: as `peek`."""
        return None

    def ended_here(self, session: Session) -> bool:
        """False: what is ended here is ended in Redis."""
        return False

    def on_ended(self, listener: Callable[[str | None], None]) -> None:
        """Nothing is told of here."""

    async def token_of(self, sid: str) -> str | None:
        """The id of the token that a login has now, or None."""
        work = partial(self._keys.token_of, octets(sid))
        found = await self._run_on_hash(work, "login look-up", None)
        return None if found is None else login_hash.text_of(found)

    async def get(self, token_id: str) -> Session | None:
        """The live session under this token id, or None."""
        return await self._lookups.ask(token_id)

    async def ping(self) -> None:
        """Ask the way every look-up asks. Raises RedisUnavailable."""
        await self._run(partial(self._keys.tokens, [""]), "redis probe")

    async def write(self, grant: Grant) -> bool:
        """Write all of one login or refresh, then end the token it replaces."""
        try:
            return await self._run(partial(self._keys.write, grant), "session write")
        finally:
            self._last_seen.written(grant.session.sid)
            self._lookups.forget(grant.session.id)
            self._lookups.forget(grant.replaces or "")

    async def get_refresh(self, refresh_id: str) -> RefreshRecord | None:
        """The record of a refresh token, live or used, or None."""
        work = partial(self._keys.refresh, refresh_id)
        record, used = await self._run_on_hash(work, "refresh look-up", _NO_FIELDS)
        return self._record(refresh_id, record, used)

    async def claim_refresh(self, refresh_id: str, used: RefreshRecord) -> RefreshRecord | None:
        """Put `used` in place of a live record, in one step; what was there before."""
        # The mark tells this claim, made twice because its answer was lost, from anyone else's.
        value = secrets.token_bytes(_MARK) + encode_refresh(used, refresh_id)
        work = partial(self._keys.claim, refresh_id, value, used.exp)
        record, stands = await self._run_on_hash(work, "refresh claim", _NO_FIELDS)
        return self._record(refresh_id, record, None if stands == value else stands)

    async def revoke_session(self, sid: str) -> bool:
        """End one login. True if there was one."""
        return await self._run(partial(self._end, [octets(sid)], None), "logout") > 0

    async def revoke_token(self, token_id: str) -> bool:
        """End the credential under this id, and its login. True if there was one."""
        try:
            return await self._run(partial(self._end_token, token_id), "logout")
        finally:
            self._lookups.forget(token_id)

    async def revoke_user(
        self, sub: str, before: float | None = None, also: Iterable[str] = ()
    ) -> int:
        """End a user's logins, or those begun `before`, and these; how many there were."""
        now = self._clock()
        await self.revocations.revoke(
            self._own.of_user(sub, now if before is None else before, now)
        )
        work = self._end_user(USER + octets(sub), before, list(map(octets, also)))
        return await self._link.detached(work, "logout of all")

    async def sessions_of(self, sub: str) -> list[SessionInfo]:
        """The user's live logins, newest first."""
        nothing: list[SessionInfo] = []
        work = partial(self._keys.listing, USER + octets(sub))
        return await self._run_on_hash(work, "session listing", nothing)

    async def close(self) -> None:
        """Close every connection; what is under way is given up."""
        self._lookups.close()
        self.revocations.close()
        await self._link.close()

    async def _run(self, work: Callable[[Redis], Awaitable[T]], name: str) -> T:
        """Do it on the link, out of its caller's reach."""
        return await self._link.detached(self._link.run(work), name)

    async def _run_on_hash(self, work: Callable[[Redis], Awaitable[T]], name: str, absent: T) -> T:
        """The same; a value of another type at the key is as good as none."""
        try:
            return await self._run(work, name)
        except RedisUnavailable as unavailable:
            if unavailable.fault is not Fault.WRONG_TYPE:
                raise
            self._count(1, "unreadable")
            return absent

    async def _fetch(self, token_ids: Sequence[str], since: float) -> list[Session | None]:
        observer = self._observer
        if observer is None:
            return await self._look_up(token_ids, since)
        reading = observer.begin()
        try:
            sessions = await self._look_up(token_ids, since)
            for token_id, session in zip(token_ids, sessions, strict=True):
                observer.confirm(token_id, session, reading)
        finally:
            observer.end(reading)
        return sessions

    async def _look_up(self, token_ids: Sequence[str], since: float) -> list[Session | None]:
        work = partial(self._keys.tokens, token_ids)
        waited = time.perf_counter() - since
        try:
            values = await self._link.run(work, waited=waited, client=self._reader)
        except RedisUnavailable as unavailable:
            self._count(len(token_ids), unavailable.fault)
            raise
        finally:
            took = time.perf_counter() - since
            observe = self._metrics.lookup_duration["redis"].observe
            for _ in token_ids:
                observe(took)
        sessions = [
            None if value is None else self._session(token_id, value)
            for token_id, value in zip(token_ids, values, strict=True)
        ]
        missed = values.count(None)
        unreadable = sessions.count(None) - missed
        self._count(missed, "miss")
        self._count(unreadable, "unreadable")
        self._count(len(values) - missed - unreadable, "hit")
        self._last_seen.add({session.sid for session in sessions if session is not None})
        return sessions

    def _session(self, token_id: str, value: bytes) -> Session | None:
        session = self._read(value, token_id)
        return None if isinstance(session, Unreadable) else session

    def _record(
        self, refresh_id: str, record: bytes | None, used: bytes | None
    ) -> RefreshRecord | None:
        """The used record, else the live one. What was used without ever being live is nothing."""
        if record is None:
            return None
        found = decode_refresh(record if used is None else used[_MARK:], refresh_id)
        if isinstance(found, Unreadable):
            self._count(1, "unreadable")
            return None
        return found

    def _count(self, number: int, result: str) -> None:
        if number:
            lookups, key = self._metrics.lookups, ("redis", result)
            lookups[key] = lookups.get(key, 0) + number

    async def _end(self, sids: Sequence[bytes], user: bytes | None, redis: Redis) -> int:
        own = self._own.of_logins(map(login_hash.text_of, sids), self._clock())
        await self.revocations.write_all(own, redis)
        logins = await self._keys.end(sids, user, redis)
        for fields in logins:
            self._lookups.forget(login_hash.text_of(fields.get(login_hash.TOKEN, b"")))
        return sum(login_hash.TOKEN in fields for fields in logins)

    async def _end_token(self, token_id: str, redis: Redis) -> bool:
        (value,) = await self._keys.tokens([token_id], redis)
        session = None if value is None else self._session(token_id, value)
        if session is not None and session.sid:
            await self._end([octets(session.sid)], None, redis)
        await self._keys.drop_token(token_id, redis)
        return session is not None

    async def _end_user(self, user: bytes, before: float | None, sids: list[bytes]) -> int:
        ended = 0
        while True:
            while sids:
                ended += await self._link.run(partial(self._end, sids[:LISTED], user))
                sids = sids[LISTED:]
            try:
                sids = await self._link.run(partial(self._keys.some_of, user, before))
            except RedisUnavailable as unavailable:
                if unavailable.fault is not Fault.WRONG_TYPE:
                    raise
                self._count(1, "unreadable")
                return ended
            if not sids:
                return ended

    async def touch(self, sids: Sequence[str]) -> None:
        """Write that these logins were seen, where that was not done for a while."""
        await self._last_seen.write(sids)
