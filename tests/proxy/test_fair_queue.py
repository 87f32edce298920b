"""Turns of callers: none waits behind all requests of another, and none fills the queue."""

from __future__ import annotations

from sidecar.proxy.fair_queue import FairQueue


def queued(*waiters: str) -> FairQueue[str]:
    """Return a queue of waiters whose callers are their first letters."""
    queue: FairQueue[str] = FairQueue()
    for waiter in waiters:
        queue.append(waiter[0], waiter)
    return queue


def emptied(queue: FairQueue[str]) -> list[str]:
    """Return all waiters in the order in which they leave."""
    return [queue.popleft() for _ in range(len(queue))]


def test_callers_take_turns() -> None:
    """Each caller's waiters leave in order, one per turn."""
    queue = queued("a1", "a2", "a3", "b1", "c1", "c2")
    assert repr(queue) == "<FairQueue 6 waiting, of 3 callers>"
    assert emptied(queue) == ["a1", "b1", "c1", "a2", "c2", "a3"]
    assert repr(queue) == "<FairQueue 0 waiting, of 0 callers>"


def test_one_caller_is_served_in_order() -> None:
    """With a single caller the order is that of arrival."""
    assert emptied(queued("a1", "a2", "a3")) == ["a1", "a2", "a3"]


def test_those_that_leave() -> None:
    """A waiter can leave from anywhere, once."""
    queue = queued("a1", "a2", "b1")
    assert queue.remove("a", "a1")
    assert not queue.remove("a", "a1")
    assert queue.remove("b", "b1")
    assert not queue.remove("b", "b1")
    assert list(queue.callers()) == ["a"]
    assert emptied(queue) == ["a2"]


def test_a_waiter_of_one_caller() -> None:
    """A caller can be served out of its turn, and then has its next one last."""
    queue = queued("a1", "b1", "b2", "c1")
    assert queue.pop_of("b") == "b1"
    assert emptied(queue) == ["a1", "c1", "b2"]


def test_room_is_made_by_the_caller_with_most() -> None:
    """The last waiter of the caller with most gives way, but to no caller with as many."""
    queue = queued("a1", "a2", "a3", "b1")
    assert queue.make_room("c") == "a3"
    assert queue.make_room("b") == "a2"
    assert queue.make_room("b") is None
    assert queue.make_room("a") is None
    assert queue.make_room("c") == "a1"
    assert emptied(queue) == ["b1"]
