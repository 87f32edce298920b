"""Denials in Redis: one key each, looked up by MGET, all those of one loop tick together.

Raises RedisUnavailable for every fault. A denial only ever grows: whatever order they come in, the
one that denies more stands, for as long as the longest.
"""

from __future__ import annotations

import time
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from sidecar.auth.denial import UNREADABLE, Denial, decode_denial, denies, encode_denial
from sidecar.sessions.batches import Batches
from sidecar.sessions.faults import RedisUnavailable
from sidecar.sessions.keyspace import DENIED, checked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from redis.asyncio import Redis

    from sidecar.auth.denial import Claimed
    from sidecar.auth.session import Session
    from sidecar.sessions.link import RedisLink
    from sidecar.sessions.store import LookupMetrics, Observer

_AT_ONCE: Final = 500


class RedisDenials:
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
        self._lookups: Batches[Claimed, Session | None] = Batches(
            self._fetch, link.tasks, parallel=1
        )

    def __repr__(self) -> str:
        return f"<RedisDenials on {self._link!r}>"

    def peek(self, claimed: Claimed) -> Session | None:
        """None: nothing is known here without asking."""
        return None

    def covers(self, claimed: Claimed) -> bool:
        """False: what is denied here is denied in Redis."""
        return False

    async def get(self, claimed: Claimed) -> Session | None:
        """The session of a token that is not denied."""
        return await self._lookups.ask(claimed)

    async def deny(self, denials: Mapping[str, Denial]) -> None:
        """Deny these, by name."""
        left = iter(denials.items())
        while some := dict(islice(left, _AT_ONCE)):
            work = partial(self.write, some)
            await self._link.detached(self._link.run(work), "revocation")

    async def write(self, denials: Mapping[str, Denial], redis: Redis) -> None:
        """The same, on a client. May run twice."""
        missing: dict[str, Denial] = {}
        weaker: dict[str, Denial] = {}
        values: list[Any] = await redis.mget([_key(name) for name in denials]) if denials else []
        for (name, denial), value in zip(denials.items(), values, strict=True):
            if value is None:
                missing[name] = denial
            elif decode_denial(value).joined(denial) != decode_denial(value):
                weaker[name] = denial
        async with redis.pipeline(transaction=False) as pipe:
            for name, denial in missing.items():
                pipe.set(_key(name), encode_denial(denial), px=self._life(denial), nx=True)
            made = checked(await pipe.execute(raise_on_error=False))
        late = {name for name, done in zip(missing, made, strict=True) if not done}
        for name, denial in denials.items():
            if name in weaker or name in late:  # somebody else's came first
                await self._strengthen(_key(name), denial, redis)

    def close(self) -> None:
        """Take no more look-ups."""
        self._lookups.close()

    async def _strengthen(self, key: bytes, denial: Denial, redis: Redis) -> None:
        """Who has written over a stronger one sees it, and puts it back."""
        while True:
            async with redis.pipeline(transaction=True) as pipe:  # of one key
                pipe.mget([key])
                pipe.set(key, encode_denial(denial), px=self._life(denial))
                ((value,), _) = checked(await pipe.execute(raise_on_error=False))
            joined = denial if value is None else decode_denial(value).joined(denial)
            if joined == denial:
                return
            denial = joined

    async def _fetch(self, claims: Sequence[Claimed], since: float) -> list[Session | None]:
        observer = self.observer
        if observer is None:
            found = await self._look_up(claims, since)
            return [_session(claimed, found) for claimed in claims]
        reading = observer.begin()
        try:
            found = await self._look_up(claims, since)
            return [
                observer.admit(claimed, [found[name] for name in claimed.names], reading)
                for claimed in claims
            ]
        finally:
            observer.end(reading)

    async def _look_up(self, claims: Sequence[Claimed], since: float) -> dict[str, Denial | None]:
        names = list(dict.fromkeys(name for claimed in claims for name in claimed.names))
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
            name: None if value is None else decode_denial(value)
            for name, value in zip(names, values, strict=True)
        }
        hits = sum(_session(claimed, found) is not None for claimed in claims)
        self._count(hits, "hit")
        self._count(len(claims) - hits, "miss")
        self._count(sum(denial is UNREADABLE for denial in found.values()), "unreadable")
        return found

    def _count(self, number: int, result: str) -> None:
        if number:
            lookups, key = self._metrics.lookups, ("redis", result)
            lookups[key] = lookups.get(key, 0) + number

    def _life(self, denial: Denial) -> int:
        """Milliseconds. As long as it is of use, however long that is."""
        return max(1, int((denial.until - self._clock()) * 1000))


def _session(claimed: Claimed, found: Mapping[str, Denial | None]) -> Session | None:
    return None if denies(claimed, (found[name] for name in claimed.names)) else claimed.session


async def _read(names: Iterable[str], redis: Redis) -> list[Any]:
    """The values under these names. One of another type is as good as none."""
    values: list[Any] = await redis.mget([_key(name) for name in names])
    return values


def _key(name: str) -> bytes:
    return DENIED + name.encode("ascii")
