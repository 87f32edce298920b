"""Which uploads may have a connection, which wait, and whose unread answers give way."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.proxy.upload_queue import UploadQueue, choose_in_turn


def test_callers_are_admitted_by_their_share() -> None:
    """Uploads are admitted in order, except those whose caller has its share."""
    queue: UploadQueue[str] = UploadQueue(4)
    assert queue.admit("a1", "a")
    assert queue.admit("a2", "a")
    assert not queue.admit("a3", "a")
    assert queue.admit("b1", "b")
    for waiter in ("a3", "c1", "b2"):
        queue.waiting.append(waiter[0], waiter)
    assert queue.next() == "c1"
    assert queue.next() is None
    assert repr(queue) == "<UploadQueue admitted=4 waiting=2>"
    assert queue.end("a1")
    assert queue.next() is None  # `a` and `b` hold as much as is free
    assert queue.end("a2")
    assert queue.next() == "a3"


def test_an_upload_ends_once() -> None:
    """Only the first end of an admitted upload frees its place."""
    queue: UploadQueue[str] = UploadQueue(2)
    assert queue.admit("a1", "a")
    queue.waiting.append("a", "a2")
    assert not queue.end("a2")
    assert not queue.end("unknown")
    assert queue.end("a1")
    assert not queue.end("a1")
    assert not queue.admitted
    assert len(queue.waiting) == 1


def full(numbers: dict[str, int]) -> UploadQueue[str]:
    """A queue without room in which callers have so many uploads, named `a0`, `a1` and so on."""
    queue: UploadQueue[str] = UploadQueue(2 * sum(numbers.values()))
    for caller, number in numbers.items():
        assert all(queue.admit(f"{caller}{each}", caller) for each in range(number))
    queue.limit = len(queue.admitted)
    return queue


@pytest.mark.parametrize(
    ("numbers", "waiting", "slow", "pairs"),
    [
        pytest.param({"a": 4}, ["b0"], ["a2", "a1"], [("a2", "b0")], id="the-slowest"),
        pytest.param({"a": 4}, ["b0"], [], [], id="none-is-slow"),
        pytest.param({"a": 4}, ["a9"], ["a1"], [], id="its-own"),
        pytest.param({"a": 1, "c": 1}, ["b0"], ["a0", "c0"], [], id="one-more-is-not-enough"),
        pytest.param({"a": 2, "c": 1}, ["b0"], ["c0", "a0"], [("a0", "b0")], id="two-more"),
        pytest.param({"a": 3, "b": 1}, ["b9"], ["a0", "a1"], [("a0", "b9")], id="as-many-then"),
        pytest.param({"a": 9, "c": 2}, ["b0"], ["c1"], [("c1", "b0")], id="who-is-not-slow-stays"),
        pytest.param(
            {"a": 5, "c": 3},
            ["b0", "b1", "b2", "d0"],
            ["c0", "a0", "a1", "a2", "c1"],
            [("a0", "b0"), ("a1", "d0"), ("c0", "b1")],
            id="several",
        ),
    ],
)
def test_slow_uploads_are_replaced(
    numbers: dict[str, int], waiting: list[str], slow: list[str], pairs: list[tuple[str, str]]
) -> None:
    """The caller with most loses its slowest, if it has two more than the one that gains."""
    queue = full(numbers)
    for waiter in waiting:
        queue.waiting.append(waiter[0], waiter)
    assert queue.replace((float(since), each) for since, each in enumerate(slow)) == pairs
    assert len(queue.admitted) == queue.limit
    assert len(queue.waiting) == len(waiting) - len(pairs)
    assert not any(queue.end(loser) for loser, _ in pairs)
    assert all(queue.end(winner) for _, winner in pairs)


@given(st.lists(st.integers(0, 5), min_size=2, max_size=6), st.lists(st.integers(0, 5)))
def test_replacing_comes_to_an_end(numbers: list[int], waiting: list[int]) -> None:
    """If all are slow, callers end with equal numbers, and then nothing more is replaced."""
    queue = full({"abcdef"[caller]: number for caller, number in enumerate(numbers)})
    for number, each in enumerate(waiting):
        queue.waiting.append("abcdef"[each], f"{'abcdef'[each]}{100 + number}")
    queue.replace((0.0, each) for each in queue.admitted)
    held: Counter[str] = Counter(queue.admitted.values())
    assert held.total() == queue.limit
    for caller in queue.waiting.callers():
        assert max(held.values(), default=0) - held[caller] <= 1
    assert queue.replace((0.0, each) for each in queue.admitted) == []


def test_the_largest_caller_gives_way_first() -> None:
    """Answers are chosen from the caller with most of those left, the earliest first."""
    readers = [("b", 1.0, "b1"), ("a", 9.0, "a9"), ("a", 2.0, "a2"), ("a", 5.0, "a5")]
    assert choose_in_turn(readers, 2) == ["a2", "a5"]
    assert choose_in_turn(readers, 4) == ["a2", "a5", "b1", "a9"]
    assert choose_in_turn(readers, -1) == []
