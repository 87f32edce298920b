"""A queue of keys by the earliest time at which they may expire. Pure."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class ExpiryQueue:
    """Holds (time, key) pairs; all times come from one clock. A key may be in it several times.

    Tokens expire at whole seconds, so many keys share a time. Such keys take a place in a list, of
    8 octets; a pair of its own would take 72.
    """

    __slots__ = ("_keys", "_number", "_times")

    def __init__(self) -> None:
        self._times: list[float] = []  # a heap
        self._keys: dict[float, str | list[str]] = {}
        self._number = 0

    def __repr__(self) -> str:
        return f"<ExpiryQueue {self._number} entries>"

    def __len__(self) -> int:
        return self._number

    def add(self, until: float, key: str) -> None:
        """Add a key that is due at `until`."""
        self._number += 1
        known = self._keys.get(until)
        if known is None:
            self._keys[until] = key
            heappush(self._times, until)
        elif isinstance(known, list):
            known.append(key)
        else:
            self._keys[until] = [known, key]

    def pop_due(self, now: float) -> str | None:
        """Remove and return a key that is due, or None if there is none."""
        if not self._times or self._times[0] > now:
            return None
        self._number -= 1
        known = self._keys[self._times[0]]
        if isinstance(known, list) and len(known) > 1:
            return known.pop()
        del self._keys[heappop(self._times)]
        return known[0] if isinstance(known, list) else known

    def replace_all(self, entries: Iterable[tuple[float, str]]) -> None:
        """Discard every entry, and hold these instead."""
        self.clear()
        for until, key in entries:
            self.add(until, key)

    def clear(self) -> None:
        """Discard every entry."""
        self._times.clear()
        self._keys.clear()
        self._number = 0
