"""Which uploads may have a connection, which wait, and whose unread answers give way."""

from __future__ import annotations

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
    assert queue.share.used == 0
    assert len(queue.waiting) == 1


def test_the_largest_caller_gives_way_first() -> None:
    """Answers are chosen from the caller with most of those left, the earliest first."""
    readers = [("b", 1.0, "b1"), ("a", 9.0, "a9"), ("a", 2.0, "a2"), ("a", 5.0, "a5")]
    assert choose_in_turn(readers, 2) == ["a2", "a5"]
    assert choose_in_turn(readers, 4) == ["a2", "a5", "b1", "a9"]
    assert choose_in_turn(readers, -1) == []
