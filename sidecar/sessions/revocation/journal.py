"""Revocations that Redis has not heard of yet, kept until it has; with a file, over a restart too.

They hold here whatever becomes of the file: that it cannot be written is said, not raised.
"""

from __future__ import annotations

import asyncio
import logging
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from sidecar.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

BROKEN: Final = "the journal cannot be written, logouts of this outage will not survive a restart"
MENDED: Final = "the journal can be written again"

_SLACK: Final = 1000  # lines more than needed before the file is written anew

logger = logging.getLogger("sidecar.sessions")


class Kind(StrEnum):
    """What was ended."""

    SESSION = "sid"
    TOKEN = "token"
    USER = "user"
    DENIAL = "denial"


class Entry(msgspec.Struct, frozen=True):
    """One revocation, made `at` a moment, of meaning `until` another (seconds since the epoch).

    `what` is the user's name, of a USER: all that had begun before `at` was ended. Of a DENIAL it
    is the denial's name, and `at` its `before`.
    """

    kind: Kind
    what: str
    at: float
    until: float

    def __repr__(self) -> str:
        return f"<Entry {self.kind}>"


class File(Protocol):
    """Where entries survive. Blocking; used by one thread at a time; raises OSError."""

    entries: list[Entry]
    lines: int
    damage: str

    def append(self, entries: Iterable[Entry]) -> None:
        """Write these; they are safe when this returns."""

    def rewrite(self, entries: Iterable[Entry]) -> None:
        """Have these and no others."""

    def close(self) -> None:
        """Give it back."""


class Journal:
    """Pending revocations, the oldest first, `limit` of them at most."""

    def __init__(self, file: File | None = None, *, limit: int = 100_000) -> None:
        self._file = file
        self._limit = limit
        self._pending: dict[tuple[Kind, str], Entry] = {}
        self._unsaved: list[Entry] = []
        self._turn = asyncio.Lock()
        self._tasks = Tasks()
        self.broken = False
        self.dropped = 0  # for want of room; they hold here all the same
        if file is not None:
            if file.damage:
                logger.error("journal damaged", extra={"damage": file.damage})
            for entry in file.entries:
                self._put(entry)

    def __repr__(self) -> str:
        return f"<Journal {len(self._pending)} pending, {self.dropped} dropped>"

    def __len__(self) -> int:
        return len(self._pending)

    def pending(self) -> list[Entry]:
        """All of them."""
        return list(self._pending.values())

    async def add(self, entry: Entry) -> None:
        """One more. Pending at once; in the file, if there is one, when this returns.

        The same again takes its place; of a user's, the later moment counts.
        """
        self._put(entry)
        if self._file is not None:
            self._unsaved.append(entry)
            await asyncio.shield(self._tasks.spawn(self._save(self._file), "journal"))

    async def done(self, entry: Entry) -> None:
        """Redis knows of it. The file may not; to be told twice does no harm."""
        key = (entry.kind, entry.what)
        if self._pending.get(key) is entry:
            del self._pending[key]
        file = self._file
        if file is not None and file.lines and not self._pending:
            await asyncio.shield(self._tasks.spawn(self._save(file), "journal"))

    async def close(self) -> None:
        """Write what is left, and give the file back."""
        if self._file is not None:
            await self._save(self._file)
            self._file.close()
        await self._tasks.close()

    def _put(self, entry: Entry) -> None:
        key = (entry.kind, entry.what)
        before = self._pending.pop(key, entry)
        self._pending[key] = max(before, entry, key=_moment)
        if len(self._pending) > self._limit:
            # A denial's `at` is no time of ours: it is mostly the end of all time.
            now = 0.0 if entry.kind is Kind.DENIAL else entry.at
            self._pending = {k: one for k, one in self._pending.items() if one.until > now}
        while len(self._pending) > self._limit:
            del self._pending[next(iter(self._pending))]
            self.dropped += 1

    async def _save(self, file: File) -> None:
        """Write what is not in the file yet; who waits for its turn finds that done for it."""
        async with self._turn:
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
            logger.info(MENDED)
        self.broken = broken


def _moment(entry: Entry) -> float:
    return entry.at
