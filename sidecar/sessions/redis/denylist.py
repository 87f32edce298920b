"""Revocations in Redis: one key each, looked up by one MGET per loop tick.

Raises RedisUnavailable for every fault. A revocation only grows: whatever the order of writes, the
key holds the latest `before` and the latest `until` of them all. A value that is not valid refuses
everything: if it were ignored, a revoked token could be accepted.
"""

from __future__ import annotations

import time
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from sidecar.auth.denylist import is_revoked
from sidecar.auth.revocation import UNREADABLE, Revocation, decode_revocation, encode_revocation
from sidecar.auth.session import Unreadable
from sidecar.auth.value_mac import Purpose
from sidecar.sessions.redis.answers import checked
from sidecar.sessions.redis.batches import LookupBatcher
from sidecar.sessions.redis.faults import RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from redis.asyncio import Redis

    from sidecar.auth.denylist import RevocableToken
    from sidecar.auth.session import Session
    from sidecar.sessions.redis.key_names import KeyNames
    from sidecar.sessions.redis.link import RedisLink
    from sidecar.sessions.redis.stored_values import StoredValues
    from sidecar.sessions.redis.tracked_reads import TrackedReads
    from sidecar.sessions.store import LookupMetrics, LookupObserver

_BATCH: Final = 500


class RedisRevocations:
    """The `RevocationStore` in Redis. `clock` returns seconds since the epoch.

    `observer` is notified of every look-up. `reads` is what look-ups use; None means the link's own
    client.
    """

    def __init__(
        self,
        link: RedisLink,
        names: KeyNames,
        values: StoredValues,
        metrics: LookupMetrics,
        clock: Callable[[], float],
    ) -> None:
        self._link = link
        self._names = names
        self._values = values
        self._metrics = metrics
        self._clock = clock
        self.observer: LookupObserver | None = None
        self.reads: TrackedReads | None = None
        # One batch at a time: look-ups of sessions use most of the connections.
        self._lookups: LookupBatcher[RevocableToken, Session | None] = LookupBatcher(
            self._fetch, link.tasks, parallel=1
        )

    def __repr__(self) -> str:
        return f"<RedisRevocations on {self._link!r}>"

    def peek(self, revocable: RevocableToken) -> Session | None:
        """None: this store keeps nothing in memory."""
        return None

    def is_revoked(self, revocable: RevocableToken) -> bool:
        """False: this store keeps nothing in memory."""
        return False

    async def get(self, revocable: RevocableToken) -> Session | None:
        """The token's session, or None if the token is revoked."""
        return await self._lookups.ask(revocable)

    async def revoke(self, revocations: Mapping[str, Revocation]) -> None:
        """Record these revocations, by name."""
        left = iter(revocations.items())
        while batch := dict(islice(left, _BATCH)):
            work = partial(self.write_all, batch)
            await self._link.detached(self._link.run(work), "revocation")

    async def write_all(self, revocations: Mapping[str, Revocation], redis: Redis) -> None:
        """Write revocations through this client. Safe to repeat."""
        missing: dict[str, Revocation] = {}
        weaker: dict[str, Revocation] = {}
        values: list[Any] = (
            await redis.mget(list(map(self._names.revocation, revocations))) if revocations else []
        )
        for (name, revocation), value in zip(revocations.items(), values, strict=True):
            stored = self._decode(self._names.revocation(name), value)
            if stored is None:
                missing[name] = revocation
            elif stored.joined(revocation) != stored:
                weaker[name] = revocation
        async with redis.pipeline(transaction=False) as pipe:
            for name, revocation in missing.items():
                key = self._names.revocation(name)
                pipe.set(key, self._encode(key, revocation), px=self._life(revocation), nx=True)
            created = checked(await pipe.execute(raise_on_error=False))
        late = {name for name, done in zip(missing, created, strict=True) if not done}
        for name, revocation in revocations.items():
            if name in weaker or name in late:  # another writer was first
                await self._strengthen(self._names.revocation(name), revocation, redis)

    def close(self) -> None:
        """Refuse further look-ups."""
        self._lookups.close()

    async def _strengthen(self, key: bytes, revocation: Revocation, redis: Redis) -> None:
        """Overwrite the value; join it with the previous one and repeat if that was stronger."""
        while True:
            async with redis.pipeline(transaction=True) as pipe:  # one key, so a cluster accepts it
                pipe.mget([key])
                pipe.set(key, self._encode(key, revocation), px=self._life(revocation))
                ((value,), _) = checked(await pipe.execute(raise_on_error=False))
            stored = self._decode(key, value)
            joined = revocation if stored is None else stored.joined(revocation)
            if joined == revocation:
                return
            revocation = joined

    async def _fetch(
        self, revocables: Sequence[RevocableToken], since: float
    ) -> list[Session | None]:
        observer = self.observer
        if observer is None:
            found = await self._look_up(revocables, since)
            return [_session(revocable, found) for revocable in revocables]
        lookup = observer.begin_lookup()
        try:
            found = await self._look_up(revocables, since)
            return [
                observer.record_revocations(
                    revocable, [found[name] for name in revocable.names], lookup
                )
                for revocable in revocables
            ]
        finally:
            observer.end_lookup(lookup)

    async def _look_up(
        self, revocables: Sequence[RevocableToken], since: float
    ) -> dict[str, Revocation | None]:
        names = list(dict.fromkeys(name for revocable in revocables for name in revocable.names))
        waited = time.perf_counter() - since
        try:
            values = await self._link.run(partial(self._read, names, self.reads), waited=waited)
        except RedisUnavailable as unavailable:
            self._values.count(len(revocables), unavailable.fault)
            raise
        finally:
            took = time.perf_counter() - since
            for _ in revocables:
                self._metrics.lookup_duration["redis"].observe(took)
        found = {
            name: self._decode(self._names.revocation(name), value)
            for name, value in zip(names, values, strict=True)
        }
        hits = sum(_session(revocable, found) is not None for revocable in revocables)
        self._values.count(hits, "hit")
        self._values.count(len(revocables) - hits, "miss")
        return found

    def _encode(self, key: bytes, revocation: Revocation) -> bytes:
        return self._values.sign(Purpose.REVOCATION, key, encode_revocation(revocation))

    def _decode(self, key: bytes, stored: bytes | None) -> Revocation | None:
        """The revocation under a key, or None. A value that is not valid refuses everything."""
        if stored is None:
            return None
        value = self._values.verify(Purpose.REVOCATION, key, stored)
        if value is None:
            return UNREADABLE
        revocation = decode_revocation(value)
        if revocation is UNREADABLE:
            self._values.reject(Purpose.REVOCATION, Unreadable.MALFORMED)
        return revocation

    async def _read(
        self, names: Iterable[str], reads: TrackedReads | None, redis: Redis
    ) -> list[Any]:
        """The values under these names. A key of another type counts as absent."""
        keys = list(map(self._names.revocation, names))
        values: list[Any] = await (redis.mget(keys) if reads is None else reads.mget(keys, redis))
        return values

    def _life(self, revocation: Revocation) -> int:
        """The time to live in milliseconds. It has no upper bound."""
        return max(1, int((revocation.until - self._clock()) * 1000))


def _session(revocable: RevocableToken, found: Mapping[str, Revocation | None]) -> Session | None:
    return (
        None
        if is_revoked(revocable, (found[name] for name in revocable.names))
        else revocable.session
    )
