"""Revocations that wait for Redis."""

from __future__ import annotations

from sidecar.auth.denylist import EVERYTHING
from sidecar.sessions.revocation.entry import Entry, EntryKind
from sidecar.sessions.revocation.journal import Journal


def entry(
    number: int, *, kind: EntryKind = EntryKind.SESSION, at: float = 1.0, until: float = 9.0
) -> Entry:
    """One of them."""
    return Entry(kind, f"what-{number}", at, until)


async def test_what_was_added_is_pending_until_it_is_done() -> None:
    """The oldest first."""
    journal = Journal()
    first, second = entry(1), entry(2)
    await journal.add(first)
    await journal.add(second)
    assert journal.pending() == [first, second]
    await journal.done(first)
    assert journal.pending() == [second]
    assert len(journal) == 1


async def test_of_the_same_the_later_counts() -> None:
    """A user's logout of all, made twice: all that had begun before the second."""
    journal = Journal()
    later, earlier = entry(1, kind=EntryKind.USER, at=5.0), entry(1, kind=EntryKind.USER, at=3.0)
    await journal.add(later)
    await journal.add(earlier)
    assert journal.pending() == [later]


async def test_what_came_meanwhile_stays() -> None:
    """It is not done because an earlier one is."""
    journal = Journal()
    earlier, later = entry(1, kind=EntryKind.USER, at=3.0), entry(1, kind=EntryKind.USER, at=5.0)
    await journal.add(earlier)
    await journal.add(later)
    await journal.done(earlier)
    assert journal.pending() == [later]


async def test_it_is_bounded() -> None:
    """What is past goes first, then the oldest, and that is counted."""
    journal = Journal(limit=2)
    await journal.add(entry(1))
    await journal.add(entry(2, until=2.0))
    await journal.add(entry(3, at=4.0))
    assert journal.pending() == [entry(1), entry(3, at=4.0)]
    await journal.add(entry(4, at=4.0))
    assert journal.pending() == [entry(3, at=4.0), entry(4, at=4.0)]
    assert repr(journal) == "<Journal 2 pending, 1 dropped>"


async def test_a_denial_is_not_the_end_of_all_others() -> None:
    """It denies what was issued before the end of all time, which is not now."""
    journal = Journal(limit=2)
    for number in (1, 2):
        await journal.add(entry(number))
    await journal.add(entry(3, kind=EntryKind.REVOCATION, at=EVERYTHING))
    assert journal.pending() == [entry(2), entry(3, kind=EntryKind.REVOCATION, at=EVERYTHING)]
    assert journal.dropped == 1


async def test_a_clock_that_is_set() -> None:
    """What was revoked before stays pending; of a user's, all that had begun by either time."""
    journal = Journal()
    ended, all_of = entry(1, at=5000.0, until=9000.0), entry(2, kind=EntryKind.USER, at=5000.0)
    await journal.add(ended)
    await journal.add(all_of)
    back, forward = (
        entry(2, kind=EntryKind.USER, at=1400.0),
        entry(2, kind=EntryKind.USER, at=8600.0),
    )
    await journal.add(back)
    assert journal.pending() == [ended, all_of]
    await journal.add(forward)
    assert journal.pending() == [ended, forward]


def test_nothing_that_is_secret_is_shown() -> None:
    """With SESSION_KEY=token, what was ended is a token."""
    assert "what" not in repr(entry(1))
