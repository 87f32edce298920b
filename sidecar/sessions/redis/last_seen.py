"""Records in Redis when logins were last seen, in the background and rarely.

One writer at a time takes one of the link's slots, so that it never delays look-ups.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from sidecar.auth.session import TimestampInterner
from sidecar.sessions.redis.faults import RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sidecar.sessions.redis.keyspace import Keyspace
    from sidecar.sessions.redis.link import RedisLink

_BATCH: Final = 100
_MAX_REMEMBERED: Final = 100_000

logger = logging.getLogger("sidecar.sessions")


class LastSeenWriter:
    """Writes each login at most once per `interval` seconds.

    `clock` returns seconds since the epoch.
    """

    __slots__ = (
        *("_clock", "_interval", "_keys", "_link", "_timestamps", "_waiting", "_writing"),
        "_written",
    )

    def __init__(
        self, link: RedisLink, keys: Keyspace, clock: Callable[[], float], interval: float
    ) -> None:
        self._link = link
        self._keys = keys
        self._clock = clock
        self._interval = interval
        # By sid, the time of the last write in whole seconds: one object for many logins.
        self._written: dict[str, float] = {}
        self._timestamps = TimestampInterner()
        self._waiting: list[str] = []
        self._writing = False

    def __repr__(self) -> str:
        return f"<LastSeenWriter {len(self._waiting)} waiting>"

    def add(self, sids: Iterable[str]) -> None:
        """These logins were seen now. Writes those that are due, in the background."""
        self._waiting += self._due(sids)
        if self._waiting and not self._writing:
            self._writing = True
            self._link.tasks.spawn(self._write_waiting(), "session seen")

    async def write(self, sids: Iterable[str]) -> None:
        """These logins were seen now. Writes those that are due before it returns."""
        due = self._due(sids)
        for start in range(0, len(due), _BATCH):
            await self._write(due[start : start + _BATCH])

    def mark_written(self, sid: str) -> None:
        """The time was written with the rest of this login."""
        self._written.pop(sid, None)
        if len(self._written) >= _MAX_REMEMBERED:
            del self._written[next(iter(self._written))]
        self._written[sid] = self._timestamps[self._clock() // 1.0]

    def _due(self, sids: Iterable[str]) -> list[str]:
        """Those that were not written recently. They count as written from now on."""
        now, written = self._clock(), self._written
        # A write in the future is due as well: the clock was set back.
        due = [
            sid for sid in sids if sid and not 0.0 <= now - written.get(sid, 0.0) < self._interval
        ]
        for sid in due:
            self.mark_written(sid)
        return due

    async def _write_waiting(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
                await self._write(batch)
        finally:
            self._writing = False

    async def _write(self, sids: Sequence[str]) -> None:
        try:
            await self._link.run(partial(self._keys.write_seen, sids, self._clock()))
        except RedisUnavailable as unavailable:
            logger.debug("last seen not written", extra={"fault": unavailable.fault})
