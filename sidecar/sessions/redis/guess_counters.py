"""Counts login attempts in Redis, for all sidecars together.

Has connections of its own and a short time limit, so a slow Redis delays a login only a little, and
what fails here does not count against the session store. Knows no users, addresses or limits: keys
are digests, and callers decide what the counts mean.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sidecar.sessions.memory.windows import Count
from sidecar.sessions.redis.answers import checked
from sidecar.sessions.redis.faults import RedisUnavailable
from sidecar.sessions.redis.link import RedisLink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from redis.asyncio import Redis

    from sidecar.sessions.redis.key_names import KeyNames

T = TypeVar("T")

FAMILIAR: Final = "ok"
CONNECTIONS: Final = 2
TIMEOUT: Final = 0.1  # seconds that a login waits for Redis, at most
LOOKUPS: Final = 16  # at once, so that attempts that are blocked do not delay the counting
_PAUSE: Final = 1.0  # seconds without Redis after a fault, so that only few logins wait for it

logger = logging.getLogger("sidecar.login")


class RedisGuessCounters:
    """Sliding windows in hashes: a field for each window, of which two are kept.

    A hash lives for two windows after its last change. `client` returns bytes and is closed with
    this. Every method returns None while Redis cannot be used. `monotonic` returns seconds.
    """

    __slots__ = ("_link", "_looking", "_monotonic", "_name", "_paused", "_paused_until")

    def __init__(
        self,
        client: Redis,
        names: KeyNames,
        *,
        timeout: float = TIMEOUT,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._link = RedisLink(client, timeout=timeout, slots=CONNECTIONS)
        self._looking = 0
        self._name = names.guess
        self._monotonic = monotonic
        self._paused = False
        self._paused_until = 0.0

    def __repr__(self) -> str:
        return f"<RedisGuessCounters {'paused' if self._paused else 'working'}>"

    async def count(
        self, keys: Sequence[bytes], familiar: bytes, number: int, window: float
    ) -> tuple[list[Count], bool] | None:
        """Add one event to window `number` of each key.

        Returns the counts, and whether the key `familiar` is marked. An event is counted twice if
        its first answer was lost.
        """

        async def work(redis: Redis) -> tuple[list[Count], bool]:
            async with redis.pipeline(transaction=False) as pipe:
                for key in keys:
                    name = self._name(key)
                    _add(pipe, name, 1, number, window)
                    pipe.hmget(name, [str(number - 1)])
                pipe.hexists(self._name(familiar), FAMILIAR)
                *answers, marked = checked(await pipe.execute(raise_on_error=False))
            counts = [
                Count(int(current), int(previous or 0))
                for current, (previous,) in zip(answers[::4], answers[3::4], strict=True)
            ]
            return counts, bool(marked)

        return await self._run(work, "login count")

    async def is_familiar(self, familiar: bytes) -> bool | None:
        """Whether the key is marked. None as well if too many such questions are being asked."""

        async def work(redis: Redis) -> bool:
            async with redis.pipeline(transaction=False) as pipe:
                pipe.hexists(self._name(familiar), FAMILIAR)
                return bool(checked(await pipe.execute(raise_on_error=False))[0])

        if self._looking >= LOOKUPS:
            return None
        self._looking += 1
        try:
            return await self._run(work, "login look-up")
        finally:
            self._looking -= 1

    async def forgive(
        self, keys: Sequence[bytes], number: int, window: float, mark: tuple[bytes, float]
    ) -> None:
        """Forget the first key's events, and take one event back from the others.

        Marks the key of `mark` as familiar, for so many seconds.
        """
        reset, *others = keys
        familiar, life = mark

        async def work(redis: Redis) -> None:
            async with redis.pipeline(transaction=False) as pipe:
                pipe.delete(self._name(reset))
                for key in others:
                    _add(pipe, self._name(key), -1, number, window)
                pipe.hset(self._name(familiar), FAMILIAR, "1")
                pipe.pexpire(self._name(familiar), int(life * 1000))
                checked(await pipe.execute(raise_on_error=False))

        await self._run(work, "login success")

    async def close(self) -> None:
        """Close every connection and cancel running operations."""
        await self._link.close()

    async def _run(self, work: Callable[[Redis], Awaitable[T]], name: str) -> T | None:
        if self._monotonic() < self._paused_until:
            return None
        try:
            found = await self._link.detached(self._link.run(work), name)
        except RedisUnavailable as unavailable:
            self._paused_until = self._monotonic() + _PAUSE
            if not self._paused:
                self._paused = True
                extra = {"fault": unavailable.fault}
                logger.warning("login attempts are counted in this pod only", extra=extra)
            return None
        if self._paused:
            self._paused = False
            logger.info("login attempts are counted for all pods again")
        return found


def _add(pipe: Any, name: bytes, events: int, number: int, window: float) -> None:
    """Three commands, which add events and keep the hash small and short-lived."""
    pipe.hincrby(name, str(number), events)
    pipe.hdel(name, str(number - 2))
    pipe.pexpire(name, int(window * 2000))
