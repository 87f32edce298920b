"""When logins were seen last, written into Redis now and then, and never in the way of a look-up.

One writer at a time, some logins at once: it takes one of the link's slots, whatever comes in.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from sidecar.sessions.redis.faults import RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sidecar.sessions.redis.keyspace import Keyspace
    from sidecar.sessions.redis.link import RedisLink

_AT_ONCE: Final = 100
_KEPT: Final = 100_000

logger = logging.getLogger("sidecar.sessions")


class LastSeenWriter:
    """Writes each login at most once in `every` seconds; `clock` gives seconds since the epoch."""

    __slots__ = ("_clock", "_every", "_keys", "_last", "_link", "_waiting", "_writing")

    def __init__(
        self, link: RedisLink, keys: Keyspace, clock: Callable[[], float], every: float
    ) -> None:
        self._link = link
        self._keys = keys
        self._clock = clock
        self._every = every
        self._last: dict[str, float] = {}  # sid: when that was written last
        self._waiting: list[str] = []
        self._writing = False

    def __repr__(self) -> str:
        return f"<LastSeenWriter {len(self._waiting)} waiting>"

    def add(self, sids: Iterable[str]) -> None:
        """These were seen now; written soon, if that is due."""
        self._waiting += self._due(sids)
        if self._waiting and not self._writing:
            self._writing = True
            self._link.tasks.spawn(self._write_waiting(), "session seen")

    async def write(self, sids: Iterable[str]) -> None:
        """The same, and written when it returns."""
        due = self._due(sids)
        for start in range(0, len(due), _AT_ONCE):
            await self._write(due[start : start + _AT_ONCE])

    def written(self, sid: str) -> None:
        """This was written with the rest of its login."""
        self._last.pop(sid, None)
        if len(self._last) >= _KEPT:
            del self._last[next(iter(self._last))]
        self._last[sid] = self._clock()

    def _due(self, sids: Iterable[str]) -> list[str]:
        """Those that were not written for a while; they are taken as written now."""
        now, last = self._clock(), self._last
        # Also what was written in the future: the clock was set back.
        due = [sid for sid in sids if sid and not 0.0 <= now - last.get(sid, 0.0) < self._every]
        for sid in due:
            self.written(sid)
        return due

    async def _write_waiting(self) -> None:
        try:
            while self._waiting:
                some, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
                await self._write(some)
        finally:
            self._writing = False

    async def _write(self, sids: Sequence[str]) -> None:
        try:
            await self._link.run(partial(self._keys.seen, sids, self._clock()))
        except RedisUnavailable as unavailable:
            logger.debug("seen not written", extra={"fault": unavailable.fault})
