"""What is kept of a body, and the room that it takes."""

from __future__ import annotations

import tracemalloc

from sidecar.proxy.fair_share import FairShare
from sidecar.proxy.staging import StagedBody


def test_parts_are_kept_in_order_and_counted() -> None:
    """What was added is counted at the next charge, and returned in order, once."""
    buffer, staged = FairShare(100), StagedBody(b"ab")
    assert staged.charge(buffer, "a", 0)
    staged.add(b"c")
    staged.add(b"d")
    assert buffer.used == 2
    assert staged.charge(buffer, "a", 0)
    assert repr(staged) == "<StagedBody of 4 octets, 4 charged>"
    assert staged.behind(b"") == b"abcd"
    assert buffer.used == 0
    assert staged.behind(b"") == b""
    assert buffer.used == 0


def test_what_finds_no_room_is_not_counted() -> None:
    """A charge that fails leaves what was charged before, and the body as it is."""
    buffer, staged = FairShare(10), StagedBody(b"abc")
    assert staged.charge(buffer, "a", 0)
    staged.add(b"x" * 6)
    assert not staged.charge(buffer, "a", 0)
    assert buffer.used == 3
    assert staged.behind(b"") == b"abc" + b"x" * 6
    assert buffer.used == 0


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
