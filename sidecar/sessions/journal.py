"""Revocations that Redis has not heard of yet."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """What was ended."""

    SESSION = "sid"
    TOKEN = "token"
    USER = "user"


class Entry(msgspec.Struct, frozen=True):
    """One revocation, made `at` a moment, of meaning `until` another (seconds since the epoch).

    What is the user's name, of a USER: all that had begun before `at` was ended.
    """

    kind: Kind
    what: str
    at: float
    until: float

    def __repr__(self) -> str:
        return f"<Entry {self.kind}>"


class Journal:
    """Pending revocations, the oldest first, `limit` of them at most."""

    def __init__(self, limit: int = 100_000) -> None:
        self._limit = limit
        self._pending: dict[tuple[Kind, str], Entry] = {}
        self.dropped = 0  # for want of room; they hold here all the same

    def __repr__(self) -> str:
        return f"<Journal {len(self._pending)} pending, {self.dropped} dropped>"

    def __len__(self) -> int:
        return len(self._pending)

    async def load(self, now: float) -> list[Entry]:
        """What a file had."""
        return []

    async def add(self, entry: Entry) -> None:
        """One more. The same again takes its place: of a user's, the later moment counts."""
        key = (entry.kind, entry.what)
        before = self._pending.pop(key, entry)
        self._pending[key] = max(before, entry, key=_moment)
        if len(self._pending) > self._limit:
            now = entry.at
            self._pending = {k: one for k, one in self._pending.items() if one.until > now}
        while len(self._pending) > self._limit:
            del self._pending[next(iter(self._pending))]
            self.dropped += 1

    def pending(self) -> list[Entry]:
        """All."""
        return list(self._pending.values())

    async def done(self, entry: Entry) -> None:
        """Redis knows."""
        if self._pending.get((entry.kind, entry.what)) is entry:
            del self._pending[entry.kind, entry.what]


def _moment(entry: Entry) -> float:
    return entry.at
