"""The expiry queue: whatever is due comes out, once for each time that it was added."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.sessions.memory.expiry import ExpiryQueue


def drained(queue: ExpiryQueue, now: float) -> list[str]:
    """Everything that is due."""
    found = []
    while (key := queue.pop_due(now)) is not None:
        found.append(key)
    return found


def test_what_is_due_comes_out() -> None:
    """Keys come out in the order of their times, and not before."""
    queue = ExpiryQueue()
    for until, key in ((20.0, "b"), (10.0, "a"), (20.0, "c"), (20.0, "c"), (30.0, "d")):
        queue.add(until, key)
    assert repr(queue) == "<ExpiryQueue 5 entries>"
    assert drained(queue, 9.9) == []
    assert drained(queue, 10.0) == ["a"]
    assert sorted(drained(queue, 29.0)) == ["b", "c", "c"]
    assert drained(queue, 30.0) == ["d"]
    assert len(queue) == 0


def test_replace_all_and_clear() -> None:
    """Replacing discards what was there."""
    queue = ExpiryQueue()
    queue.add(1.0, "old")
    queue.replace_all([(2.0, "x"), (2.0, "y")])
    assert len(queue) == 2
    assert sorted(drained(queue, 2.0)) == ["x", "y"]
    queue.add(1.0, "old")
    queue.clear()
    assert (len(queue), queue.pop_due(9.0)) == (0, None)


@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from("abc"), st.booleans()), max_size=60))
def test_as_a_sorted_list(steps: list[tuple[int, str, bool]]) -> None:
    """In any order of operations, it has what a plain list of pairs would have."""
    queue, model = ExpiryQueue(), list[tuple[int, str]]()
    for time, key, adds in steps:
        if adds:
            queue.add(float(time), key)
            model.append((time, key))
        else:
            popped = queue.pop_due(float(time))
            due = [each for each in model if each[0] <= time]
            assert (popped is None) is (not due)
            if popped is not None:
                model.remove((min(due)[0], popped))
        assert len(queue) == len(model)
