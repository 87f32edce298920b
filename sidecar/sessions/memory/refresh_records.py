"""Records of refresh tokens in memory. Bounded. Pure; knows no logins."""

from __future__ import annotations

import msgspec

from sidecar.auth.session import RefreshRecord
from sidecar.sessions.memory.expiry import ExpiryQueue


class _Entry(msgspec.Struct, gc=False):
    """A record, until when it is kept, and how often it was repeated since its use."""

    record: RefreshRecord
    until: float
    repeats: int = 0


class RefreshRecords:
    """At most `limit` records by refresh id. Times are seconds since the epoch.

    When it is full, the oldest record is evicted. A used record is never overwritten. Used records
    expire soon, and are removed then.
    """

    __slots__ = ("_entries", "_limit", "_used")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: dict[str, _Entry] = {}
        self._used = ExpiryQueue()  # of used records

    def __repr__(self) -> str:
        return f"<RefreshRecords {len(self._entries)} of {self._limit}>"

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, refresh_id: str, now: float) -> RefreshRecord | None:
        """The record, live or used; None if it is unknown or has expired."""
        entry = self._entry(refresh_id, now)
        return None if entry is None else entry.record

    def put(self, refresh_id: str, record: RefreshRecord, until: float, now: float) -> None:
        """Store a record until then, unless the stored one is used."""
        self._sweep(now)
        stored = self._entry(refresh_id, now)
        if stored is not None and stored.record.used_at is not None:
            return
        self._entries.pop(refresh_id, None)
        if len(self._entries) >= self._limit:
            del self._entries[next(iter(self._entries))]
        self._entries[refresh_id] = _Entry(record, until)
        if record.used_at is not None:
            self._used.add(until, refresh_id)

    def count_repeat(self, refresh_id: str, now: float) -> int | None:
        """Count a repeat of a used token. Returns how many there were; None if it is unknown."""
        entry = self._entry(refresh_id, now)
        if entry is None:
            return None
        entry.repeats += 1
        return entry.repeats

    def discard(self, refresh_id: str) -> None:
        """Remove a record, if it is there."""
        self._entries.pop(refresh_id, None)

    def clear(self) -> None:
        """Remove all records."""
        self._entries.clear()
        self._used.clear()

    def _entry(self, refresh_id: str, now: float) -> _Entry | None:
        entry = self._entries.get(refresh_id)
        if entry is not None and entry.until <= now:
            del self._entries[refresh_id]
            return None
        return entry

    def _sweep(self, now: float) -> None:
        """Remove used records that have expired."""
        while (refresh_id := self._used.pop_due(now)) is not None:
            self._entry(refresh_id, now)
