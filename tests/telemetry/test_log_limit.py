"""Tests of `sidecar.telemetry.log_limit`: how many lines others can cause."""

from __future__ import annotations

from sidecar.telemetry.log_limit import INTERVAL, LINES, LogLimit


def test_one_line_for_each_cause() -> None:
    """In an interval each cause gets one line of a topic, and one of every other topic."""
    limit = LogLimit()
    assert limit.admit("path", "a", 0.0) == 0
    assert limit.admit("path", "a", 1.0) is None
    assert limit.admit("path", "b", 2.0) == 1
    assert limit.admit("host", "a", 3.0) == 0


def test_many_causes_share_a_bound() -> None:
    """However many causes there are, a topic gets `LINES` lines, and keeps no more causes."""
    limit = LogLimit()
    admitted = [limit.admit("path", str(n), 0.0) for n in range(1000)]
    assert admitted == [0] * LINES + [None] * (1000 - LINES)
    assert limit.admit("path", "0", INTERVAL - 0.1) is None


def test_the_next_interval_says_what_was_left_out() -> None:
    """The first line of the next interval has the number of lines left out, the second has 0."""
    limit = LogLimit()
    for n in range(LINES + 7):
        limit.admit("path", str(n), 0.0)
    assert limit.admit("path", "0", INTERVAL) == 7
    assert limit.admit("path", "1", INTERVAL) == 0
    assert repr(limit) == "<LogLimit of 1 topics>"
