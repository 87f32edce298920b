"""What is kept of a body, and the room that it takes."""

from __future__ import annotations

import tracemalloc

from sidecar.proxy.held import HeldOctets
from sidecar.proxy.staging import StagedBody
from tests.proxy.keeper import Keeper


def test_parts_are_kept_in_order_and_counted() -> None:
    """What was added is counted at the next count, and returned in order, once."""
    room, staged, holder = HeldOctets(100), StagedBody(b"ab"), Keeper()
    assert staged.count_if_fair(room, holder, "a", 0)
    staged.add(b"c")
    staged.add(b"d")
    assert room.total == 2
    assert staged.count_if_fair(room, holder, "a", 10)
    assert room.total == 14
    assert repr(staged) == "<StagedBody of 4 octets in <HeldOctets 14 of 100 by 1 of 1 callers>>"
    assert staged.behind(b"head") == b"headabcd"
    assert room.total == 0
    assert staged.behind(b"head") == b"head"
    staged.free()
    assert room.total == 0


def test_what_finds_no_room_is_not_counted() -> None:
    """If there is no room, what was counted before stays, and the body is as it was."""
    room, staged, holder = HeldOctets(10), StagedBody(b"abc"), Keeper()
    assert staged.count_if_fair(room, holder, "a", 0)
    staged.add(b"x" * 8)
    assert not staged.count_if_fair(room, holder, "a", 0)
    assert (room.total, holder.gave_up) == (3, 0)
    assert staged.behind(b"") == b"abc" + b"x" * 8
    assert room.total == 0


def test_one_room_at_a_time() -> None:
    """A body that is counted elsewhere is no longer counted where it was."""
    first, second, staged, holder = HeldOctets(10), HeldOctets(10), StagedBody(b"abc"), Keeper()
    assert staged.count_if_fair(first, holder, "a", 0)
    staged.count(second, holder, "a", 2)
    assert (first.total, second.total) == (0, 5)
    staged.free()
    assert (second.total, staged.size) == (0, 0)


def test_single_octets_take_no_more_memory() -> None:
    """A body that arrives octet by octet takes about as much memory as it has octets."""
    size = 50_000
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        staged = StagedBody()
        for number in range(size):
            staged.add(bytes((number & 0xFF,)))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert staged.size == size
    assert after - before < 2 * size
