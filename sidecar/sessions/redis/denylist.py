"""Denials in Redis: one key each, looked up by MGET, all those of one loop tick together.

Raises RedisUnavailable for every fault. A denial only ever grows: whatever order they come in, the
one that is_revoked more stands, for as long as the longest.
"""

from __future__ import annotations

import time
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from sidecar.auth.denylist import (
    UNREADABLE,
    Revocation,
    decode_revocation,
    encode_revocation,
    is_revoked,
)
from sidecar.sessions.redis.batches import LookupBatcher
from sidecar.sessions.redis.faults import RedisUnavailable
from sidecar.sessions.redis.keyspace import DENIED, checked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from redis.asyncio import Redis

    from sidecar.auth.denylist import RevocableToken
    from sidecar.auth.session import Session
    from sidecar.sessions.redis.link import RedisLink
    from sidecar.sessions.store import LookupMetrics, Observer

_AT_ONCE: Final = 500


class RedisRevocations:
    """The `Denials` of a Redis, by its link. `clock` gives seconds since the epoch.

    `observer` is told of every look-up; `reader` is the client to read by, or None.
    """

    def __init__(self, link: RedisLink, metrics: LookupMetrics, clock: Callable[[], float]) -> None:
        self._link = link
        self._metrics = metrics
        self._clock = clock
        self.observer: Observer | None = None
        self.reader: Redis | None = None
        # One at a time: beside the sessions' own look-ups, which have connections of their number.
        self._lookups: LookupBatcher[RevocableToken, Session | None] = LookupBatcher(
            self._fetch, link.tasks, parallel=1
        )

    def __repr__(self) -> str:
        return f"<RedisRevocations on {self._link!r}>"

    def peek(self, revocable: RevocableToken) -> Session | None:
        """None: nothing is known here without asking."""
        return None

    def is_revoked(self, revocable: RevocableToken) -> bool:
        """False: what is denied here is denied in Redis."""
        return False

    async def get(self, revocable: RevocableToken) -> Session | None:
        """The session of a token that is not denied."""
        return await self._lookups.ask(revocable)

    async def revoke(self, revocations: Mapping[str, Revocation]) -> None:
        """Deny these, by name."""
        left = iter(revocations.items())
        while some := dict(islice(left, _AT_ONCE)):
            work = partial(self.write_all, some)
            await self._link.detached(self._link.run(work), "revocation")

    async def write_all(self, revocations: Mapping[str, Revocation], redis: Redis) -> None:
        """The same, on a client. May run twice."""
        missing: dict[str, Revocation] = {}
        weaker: dict[str, Revocation] = {}
        values: list[Any] = (
            await redis.mget([_key(name) for name in revocations]) if revocations else []
        )
        for (name, revocation), value in zip(revocations.items(), values, strict=True):
            if value is None:
                missing[name] = revocation
            elif decode_revocation(value).joined(revocation) != decode_revocation(value):
                weaker[name] = revocation
        async with redis.pipeline(transaction=False) as pipe:
            for name, revocation in missing.items():
                pipe.set(
                    _key(name), encode_revocation(revocation), px=self._life(revocation), nx=True
                )
            made = checked(await pipe.execute(raise_on_error=False))
        late = {name for name, done in zip(missing, made, strict=True) if not done}
        for name, revocation in revocations.items():
            if name in weaker or name in late:  # somebody else's came first
                await self._strengthen(_key(name), revocation, redis)

    def close(self) -> None:
        """Take no more look-ups."""
        self._lookups.close()

    async def _strengthen(self, key: bytes, revocation: Revocation, redis: Redis) -> None:
        """Who has written over a stronger one sees it, and puts it back."""
        while True:
            async with redis.pipeline(transaction=True) as pipe:  # of one key
                pipe.mget([key])
                pipe.set(key, encode_revocation(revocation), px=self._life(revocation))
                ((value,), _) = checked(await pipe.execute(raise_on_error=False))
            joined = revocation if value is None else decode_revocation(value).joined(revocation)
            if joined == revocation:
                return
            revocation = joined

    async def _fetch(self, claims: Sequence[RevocableToken], since: float) -> list[Session | None]:
        observer = self.observer
        if observer is None:
            found = await self._look_up(claims, since)
            return [_session(revocable, found) for revocable in claims]
        reading = observer.begin()
        try:
            found = await self._look_up(claims, since)
            return [
                observer.admit(revocable, [found[name] for name in revocable.names], reading)
                for revocable in claims
            ]
        finally:
            observer.end(reading)

    async def _look_up(
        self, claims: Sequence[RevocableToken], since: float
    ) -> dict[str, Revocation | None]:
        names = list(dict.fromkeys(name for revocable in claims for name in revocable.names))
        waited = time.perf_counter() - since
        try:
            values: list[Any] = await self._link.run(
                partial(_read, names), waited=waited, client=self.reader
            )
        except RedisUnavailable as unavailable:
            self._count(len(claims), unavailable.fault)
            raise
        finally:
            took = time.perf_counter() - since
            for _ in claims:
                self._metrics.lookup_duration["redis"].observe(took)
        found = {
            name: None if value is None else decode_revocation(value)
            for name, value in zip(names, values, strict=True)
        }
        hits = sum(_session(revocable, found) is not None for revocable in claims)
        self._count(hits, "hit")
        self._count(len(claims) - hits, "miss")
        self._count(sum(revocation is UNREADABLE for revocation in found.values()), "unreadable")
        return found

    def _count(self, number: int, result: str) -> None:
        if number:
            lookups, key = self._metrics.lookups, ("redis", result)
            lookups[key] = lookups.get(key, 0) + number

    def _life(self, revocation: Revocation) -> int:
        """Milliseconds. As long as it is of use, however long that is."""
        return max(1, int((revocation.until - self._clock()) * 1000))


def _session(revocable: RevocableToken, found: Mapping[str, Revocation | None]) -> Session | None:
    return (
        None
        if is_revoked(revocable, (found[name] for name in revocable.names))
        else revocable.session
    )


async def _read(names: Iterable[str], redis: Redis) -> list[Any]:
    """The values under these names. One of another type is as good as none."""
    values: list[Any] = await redis.mget([_key(name) for name in names])
    return values


def _key(name: str) -> bytes:
    return DENIED + name.encode("ascii")
