"""The journal of revocations that Redis has not received."""

from __future__ import annotations

from sidecar.auth.revocation import EVERYTHING
from sidecar.sessions.revocation.entry import Entry, EntryKind
from sidecar.sessions.revocation.journal import Journal


def entry(
    number: int, *, kind: EntryKind = EntryKind.SESSION, at: float = 1.0, until: float = 9.0
) -> Entry:
    """A journal entry."""
    return Entry(kind, f"what-{number}", at, until)


async def test_an_entry_is_pending_until_it_is_done() -> None:
    """Pending entries are listed oldest first."""
    journal = Journal()
    first, second = entry(1), entry(2)
    await journal.add(first)
    await journal.add(second)
    assert journal.pending() == [first, second]
    await journal.done(first)
    assert journal.pending() == [second]
    assert len(journal) == 1


async def test_the_later_of_two_equal_entries_counts() -> None:
    """Of two logouts of all sessions, the later one ends more."""
    journal = Journal()
    later, earlier = entry(1, kind=EntryKind.USER, at=5.0), entry(1, kind=EntryKind.USER, at=3.0)
    await journal.add(later)
    await journal.add(earlier)
    assert journal.pending() == [later]


async def test_a_newer_entry_stays_pending() -> None:
    """`done` of an older entry does not remove a newer one."""
    journal = Journal()
    earlier, later = entry(1, kind=EntryKind.USER, at=3.0), entry(1, kind=EntryKind.USER, at=5.0)
    await journal.add(earlier)
    await journal.add(later)
    await journal.done(earlier)
    assert journal.pending() == [later]


async def test_it_is_bounded() -> None:
    """A full journal discards expired entries first, then the oldest, which it counts."""
    journal = Journal(limit=2)
    await journal.add(entry(1))
    await journal.add(entry(2, until=2.0))
    await journal.add(entry(3, at=4.0))
    assert journal.pending() == [entry(1), entry(3, at=4.0)]
    await journal.add(entry(4, at=4.0))
    assert journal.pending() == [entry(3, at=4.0), entry(4, at=4.0)]
    assert repr(journal) == "<Journal 2 pending, 1 dropped>"


async def test_a_denylist_entry_does_not_expire_the_others() -> None:
    """Its `at` may be the end of all time, which is not the current time."""
    journal = Journal(limit=2)
    for number in (1, 2):
        await journal.add(entry(number))
    await journal.add(entry(3, kind=EntryKind.REVOCATION, at=EVERYTHING))
    assert journal.pending() == [entry(2), entry(3, kind=EntryKind.REVOCATION, at=EVERYTHING)]
    assert journal.dropped == 1


async def test_the_clock_is_set() -> None:
    """Earlier entries stay pending. Of two logouts of all sessions, the later time counts."""
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


def test_repr_shows_no_secret() -> None:
    """With SESSION_KEY=token, an entry's name is a token."""
    assert "what" not in repr(entry(1))
