"""Records of refresh tokens in memory. Bounded. Pure; knows no logins."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.auth.session import RefreshRecord


class RefreshRecords:
    """At most `limit` records by refresh id. Times are seconds since the epoch.

    When it is full, the oldest record is evicted. A used record is never overwritten.
    """

    __slots__ = ("_limit", "_records")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._records: dict[str, tuple[float, RefreshRecord]] = {}  # until, record

    def __repr__(self) -> str:
        return f"<RefreshRecords {len(self._records)} of {self._limit}>"

    def __len__(self) -> int:
        return len(self._records)

    def get(self, refresh_id: str, now: float) -> RefreshRecord | None:
        """The record, live or used; None if it is unknown or has expired."""
        until, record = self._records.get(refresh_id, (0.0, None))
        if record is not None and until <= now:
            del self._records[refresh_id]
            return None
        return record

    def put(self, refresh_id: str, record: RefreshRecord, until: float, now: float) -> None:
        """Store a record until then, unless the stored one is used."""
        stored = self.get(refresh_id, now)
        if stored is not None and stored.used_at is not None:
            return
        self._records.pop(refresh_id, None)
        if len(self._records) >= self._limit:
            del self._records[next(iter(self._records))]
        self._records[refresh_id] = (until, record)

    def discard(self, refresh_id: str) -> None:
        """Remove a record, if it is there."""
        self._records.pop(refresh_id, None)

    def clear(self) -> None:
        """Remove all records."""
        self._records.clear()
