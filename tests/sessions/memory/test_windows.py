"""Counts of the recent past: two counters for each key, in a table of bounded size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.sessions.memory.windows import Count, Entry, WindowTable

WINDOW = 100.0


@pytest.mark.parametrize(
    ("count", "now", "recent"),
    [
        pytest.param(Count(), 150.0, 0.0, id="nothing"),
        pytest.param(Count(3), 150.0, 3.0, id="only-now"),
        pytest.param(Count(3, 10), 100.0, 13.0, id="at-the-start"),
        pytest.param(Count(3, 10), 150.0, 8.0, id="half-way"),
        pytest.param(Count(-2, 10), 150.0, 5.0, id="more-taken-back-than-added"),
        pytest.param(Count(2, -10), 150.0, 2.0, id="more-taken-back-before"),
    ],
)
def test_recent(count: Count, now: float, recent: float) -> None:
    """The previous window counts by the share of it that is less than a window ago."""
    assert count.recent(now, WINDOW) == recent


def after(count: Count, now: float, later: float) -> Count:
    """The count of the same events at a later time, in the same window or the next two."""
    passed = int(later // WINDOW) - int(now // WINDOW)
    return (count, Count(0, count.current), Count())[passed]


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 200), st.floats(1000.0, 1099.0))
def test_wait(current: int, previous: int, limit: int, now: float) -> None:
    """After the wait one more event stays within the limit, and just before it did not."""
    count = Count(current, previous)
    wait = count.wait(limit, now, WINDOW)
    assert 0.0 <= wait <= 2 * WINDOW
    later = now + wait + 1e-6
    assert after(count, now, later).recent(later, WINDOW) + 1 <= limit + 1e-3
    if wait > 1e-3:
        before = now + wait - 1e-3
        assert after(count, now, before).recent(before, WINDOW) + 1 > limit


def test_most() -> None:
    """Of two incomplete counts of the same events, the higher numbers are true."""
    assert Count(3, 1).most(Count(2, 5)) == Count(3, 5)


def test_windows_follow_each_other() -> None:
    """A window becomes the previous one, and is forgotten after that."""
    entry = Entry()
    assert entry.add(2, 7) == Count(2, 0)
    assert entry.add(1, 7) == Count(3, 0)
    assert entry.add(1, 8) == Count(1, 3)
    assert entry.add(1, 10) == Count(1, 0)
    assert entry.add(-5, 10) == Count(0, 0)
    assert repr(entry) == "<Entry 0 now, 0 before>"


def test_the_least_recently_used_is_dropped() -> None:
    """However many keys there are, the table has at most its size."""
    table = WindowTable(2)
    table.entry(b"a").add(1, 1)
    table.entry(b"b")
    assert table.find(b"a") is table.entry(b"a")
    table.entry(b"c")
    assert (table.find(b"b"), len(table)) == (None, 2)
    assert table.entry(b"a").current == 1
    assert repr(table) == "<WindowTable 2 of 2>"
