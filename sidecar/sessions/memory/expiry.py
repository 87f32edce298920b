"""A queue of keys by the earliest time at which they may expire. Pure."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class ExpiryQueue:
    """Holds (time, key) pairs; all times come from one clock. A key may be in it several times."""

    __slots__ = ("_heap",)

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []

    def __repr__(self) -> str:
        return f"<ExpiryQueue {len(self._heap)} entries>"

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, until: float, key: str) -> None:
        """Add a key that is due at `until`."""
        heappush(self._heap, (until, key))

    def pop_due(self, now: float) -> str | None:
        """Remove and return a key that is due, or None if there is none."""
        if not self._heap or self._heap[0][0] > now:
            return None
        return heappop(self._heap)[1]

    def replace_all(self, entries: Iterable[tuple[float, str]]) -> None:
        """Discard every entry, and hold these instead."""
        self._heap = list(entries)
        heapify(self._heap)

    def clear(self) -> None:
        """Discard every entry."""
        self._heap.clear()
