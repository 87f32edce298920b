"""Revocations that Redis has not received yet. With a file, they also survive a restart.

A revocation holds in this process whether the file can be written or not: a fault of the file is
logged, never raised.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, Protocol

from sidecar.sessions.revocation.entry import Entry, EntryKind
from sidecar.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

BROKEN: Final = "the journal cannot be written, logouts of this outage will not survive a restart"
WRITABLE_AGAIN: Final = "the journal can be written again"

_SLACK: Final = 1000  # superfluous lines in the file before it is rewritten

logger = logging.getLogger("sidecar.sessions")


class File(Protocol):
    """Durable storage of entries. Blocking; used by one thread at a time; raises OSError.

    `entries` are those found when it was opened, `lines` how many it holds now, and `damage`
    describes what could not be read.
    """

    entries: list[Entry]
    lines: int
    damage: str

    def append(self, entries: Iterable[Entry]) -> None:
        """Append entries; they are durable when this returns."""

    def rewrite(self, entries: Iterable[Entry]) -> None:
        """Replace the contents by these entries, atomically."""

    def close(self) -> None:
        """Release the file."""


class Journal:
    """Pending revocations, oldest first, at most `limit`."""

    def __init__(self, file: File | None = None, *, limit: int = 100_000) -> None:
        self._file = file
        self._limit = limit
        self._pending: dict[tuple[EntryKind, str], Entry] = {}
        self._unsaved: list[Entry] = []
        self._saving = asyncio.Lock()
        self._tasks = Tasks()
        self.broken = False
        self.dropped = 0  # discarded to make room; they still hold in this process
        if file is not None:
            if file.damage:
                logger.error("journal damaged", extra={"damage": file.damage})
            for entry in file.entries:
                self._put(entry)

    def __repr__(self) -> str:
        return f"<Journal {len(self._pending)} pending, {self.dropped} dropped>"

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def is_half_full(self) -> bool:
        """Whether the half is used that anyone can fill; the rest is for logins that are known."""
        return 2 * len(self._pending) >= self._limit

    def pending(self) -> list[Entry]:
        """All pending entries, oldest first."""
        return list(self._pending.values())

    async def add(self, entry: Entry) -> None:
        """Add an entry. It is pending at once, and in the file when this returns.

        It replaces an entry of the same kind and name, unless that one has a later `at`.
        """
        self._put(entry)
        if self._file is not None:
            self._unsaved.append(entry)
            await asyncio.shield(self._tasks.spawn(self._save(self._file), "journal"))

    async def done(self, entry: Entry) -> None:
        """Redis has received this entry.

        The file may keep it for a while: receiving an entry twice does no harm.
        """
        key = (entry.kind, entry.name)
        if self._pending.get(key) is entry:
            del self._pending[key]
        file = self._file
        if file is not None and file.lines and not self._pending:
            await asyncio.shield(self._tasks.spawn(self._save(file), "journal"))

    async def close(self) -> None:
        """Write what is left, and release the file."""
        if self._file is not None:
            await self._save(self._file)
            self._file.close()
        await self._tasks.close()

    def _put(self, entry: Entry) -> None:
        key = (entry.kind, entry.name)
        before = self._pending.pop(key, entry)
        self._pending[key] = max(before, entry, key=_made_at)
        if len(self._pending) > self._limit:
            # The `at` of a denylist entry is not the current time but mostly the end of all time.
            now = 0.0 if entry.kind is EntryKind.REVOCATION else entry.at
            self._pending = {k: held for k, held in self._pending.items() if held.until > now}
        while len(self._pending) > self._limit:
            del self._pending[next(iter(self._pending))]
            self.dropped += 1

    async def _save(self, file: File) -> None:
        """Write what the file lacks. One write serves every caller that waits for the lock."""
        async with self._saving:
            entries, self._unsaved = self._unsaved, []
            pending = self.pending()
            work: Callable[[Iterable[Entry]], None] | None = None
            if self.broken or file.lines > 4 * len(pending) + _SLACK:
                entries, work = pending, file.rewrite
            elif not pending and file.lines:
                work = file.rewrite
            elif entries:
                work = file.append
            if work is None:
                return
            try:
                await asyncio.to_thread(work, entries if pending else [])
            except OSError as error:
                self._note(broken=True, why=error.strerror or type(error).__name__)
            else:
                self._note(broken=False)

    def _note(self, *, broken: bool, why: str = "") -> None:
        if broken and not self.broken:
            logger.error(BROKEN, extra={"fault": why})
        elif self.broken and not broken:
            logger.info(WRITABLE_AGAIN)
        self.broken = broken


def _made_at(entry: Entry) -> float:
    return entry.at
