"""Reads what users see of their logins in Redis, a page at a time. Knows no connections."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sidecar.sessions.listing import PAGE, page_of
from sidecar.sessions.redis.key_names import octets
from sidecar.sessions.redis.login_hash import text_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from sidecar.auth.session import SessionInfo
    from sidecar.sessions.listing import Position
    from sidecar.sessions.redis.keyspace import Keyspace

T = TypeVar("T")


class Run(Protocol):
    """Runs work on a hash or sorted set, with a deadline."""

    async def __call__(self, work: Callable[[Redis], Awaitable[T]], name: str, absent: T) -> T:
        """The outcome of `work`, or `absent` if a key holds another type."""


class RedisListings:
    """Operations through a client. `clock` returns seconds since the epoch.

    The set of a user's logins carries no MAC, so each login is checked to be the user's.
    """

    __slots__ = ("_clock", "_keys")

    def __init__(self, keys: Keyspace, clock: Callable[[], float]) -> None:
        self._keys = keys
        self._clock = clock

    def __repr__(self) -> str:
        return f"<RedisListings of {self._keys!r}>"

    async def login(self, sub: str, sid: str, redis: Redis) -> SessionInfo | None:
        """The login under this sid if it is one of the user's live logins."""
        infos = await self._keys.read_logins([octets(sid)], redis)
        return infos[0] if infos and infos[0].sub == sub else None

    async def page(
        self, sub: str, after: Position | None, limit: int, redis: Redis
    ) -> list[SessionInfo]:
        """The first `limit` of a user's live logins after this position, newest first."""
        found: list[SessionInfo] = []
        while len(found) < limit:  # more than once only if some of them are ending
            positions = await self._positions(sub, after, limit - len(found), redis)
            if not positions:
                break
            after = positions[-1]
            infos = await self._keys.read_logins([octets(sid) for _, sid in positions], redis)
            found += [info for info in infos if info.sub == sub]
        return page_of(found, None, limit)

    async def times(self, sub: str, above: int, run: Run) -> dict[str, float]:
        """When each of a user's live logins began, by sid; empty unless more than `above`.

        Every step is run by itself, because each has a deadline.
        """
        nothing: list[bytes] = []
        sids = await run(partial(self._sids, sub, above), "login count", nothing)
        began: dict[str, float] = {}
        for start in range(0, len(sids), PAGE):
            work = partial(self._keys.read_logins, sids[start : start + PAGE])
            none: list[SessionInfo] = []
            infos = await run(work, "login times", none)
            began |= {info.sid: info.created for info in infos if info.sub == sub}
        return began if len(began) > above else {}

    async def _sids(self, sub: str, above: int, redis: Redis) -> list[bytes]:
        """The sids of a user's logins; none unless there are more than `above`."""
        user, now = self._keys.names.user(sub), self._clock()
        beyond = await redis.zrevrangebyscore(user, "+inf", now, start=above, num=1)
        sids: list[Any] = await redis.zrevrangebyscore(user, "+inf", now) if beyond else []
        return sids

    async def _positions(
        self, sub: str, after: Position | None, limit: int, redis: Redis
    ) -> list[Position]:
        """Up to `limit` positions of a user's logins after this one. Empty if there are no more."""
        user, now, start = self._keys.names.user(sub), self._clock(), 0
        highest = "+inf" if after is None else after[0]
        while True:
            ranked: list[Any] = await redis.zrevrangebyscore(
                user, highest, now, start=start, num=2 * limit, withscores=True
            )
            found = [(score, text_of(sid)) for sid, score in ranked]
            page = [each for each in found if after is None or each < after][:limit]
            start += len(ranked)
            if page or not ranked:  # otherwise they expire at the same time as `after`, before it
                return page
