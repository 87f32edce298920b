"""Counts events of the recent past in constant memory, by key: a sliding window of two counters.

Time is divided into windows of fixed length. The events of the last `window` seconds are about
those of the current window, plus the share of the previous window that is not over yet. Knows
neither what is counted nor the time: callers pass `now`, in seconds since the epoch.
"""

from __future__ import annotations

from typing import NamedTuple


class Count(NamedTuple):
    """The events in the current window and in the one before it."""

    current: int = 0
    previous: int = 0

    def most(self, other: Count) -> Count:
        """The higher counts of two that count the same events incompletely."""
        return Count(max(self.current, other.current), max(self.previous, other.previous))

    def recent(self, now: float, window: float) -> float:
        """About how many events the last `window` seconds had."""
        return max(self.current, 0) + max(self.previous, 0) * (1.0 - now % window / window)

    def wait(self, limit: int, now: float, window: float) -> float:
        """Seconds until one more event stays within `limit`, which is at least 1."""
        into, room = now % window, limit - 1 - self.current
        if room >= 0:
            if self.previous <= room:
                return 0.0
            return max(window * (1.0 - room / self.previous) - into, 0.0)
        return window - into + window * (1.0 - min((limit - 1) / self.current, 1.0))


class Entry:
    """What is known of one key. All times are in seconds since the epoch."""

    __slots__ = ("blocked_until", "current", "familiar_until", "previous", "window")

    def __init__(self) -> None:
        self.window = 0  # the number of the window that `current` counts
        self.current = 0
        self.previous = 0
        self.blocked_until = 0.0
        self.familiar_until = 0.0

    def __repr__(self) -> str:
        return f"<Entry {self.current} now, {self.previous} before>"

    def add(self, number: int, window: int) -> Count:
        """Add `number` events to a window, and return the counts as of that window."""
        if window != self.window:
            self.previous = self.current if window == self.window + 1 else 0
            self.window, self.current = window, 0
        self.current = max(self.current + number, 0)
        return Count(self.current, self.previous)


class WindowTable:
    """Entries by key. At most `size` of them are kept; the least recently used are dropped."""

    __slots__ = ("_entries", "_size")

    def __init__(self, size: int = 10_000) -> None:
        self._size = size
        self._entries: dict[bytes, Entry] = {}

    def __repr__(self) -> str:
        return f"<WindowTable {len(self)} of {self._size}>"

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: bytes) -> Entry | None:
        """The entry of a key, which counts as used now, or None."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._entries[key] = entry
        return entry

    def entry(self, key: bytes) -> Entry:
        """The entry of a key, made if there is none."""
        entry = self.find(key)
        if entry is None:
            if len(self._entries) >= self._size:
                del self._entries[next(iter(self._entries))]
            entry = self._entries[key] = Entry()
        return entry
