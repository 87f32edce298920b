"""The token cache: what is used again stays, what is used once makes room, and both are bounded."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.auth.doorkeeper import Doorkeeper
from sidecar.auth.token_cache import OCTETS, SHARE, TokenCache
from tests.auth.forge import unhurried

NOW = 1000.0


@dataclass
class Entry:
    """An entry with an expiry."""

    number: int
    until: float = NOW + 900.0
    octets: int = 0


def key(number: int) -> bytes:
    """Return the digest for a number."""
    return sha256(b"%d" % number).digest()


def use(cache: TokenCache[Entry], number: int, *, now: float = NOW, octets: int = 0) -> bool:
    """Use a credential as the gate does. Returns whether it was in the cache."""
    if cache.entries.get(key(number)) or cache.find(key(number)):
        return True
    cache.put(key(number), Entry(number, octets=octets), now)
    return False


def use_twice(cache: TokenCache[Entry], number: int, *, octets: int = 0) -> None:
    """Use a credential that is not in the cache twice, one time after the other."""
    assert [use(cache, number, octets=octets) for _ in range(2)] == [False, True]


def known(cache: TokenCache[Entry], numbers: range) -> list[int]:
    """Return which of these numbers are protected."""
    return [number for number in numbers if key(number) in cache.entries]


def test_put() -> None:
    """What was put there is found, and nothing else. Only what is used again is protected."""
    cache: TokenCache[Entry] = TokenCache(64)
    one = Entry(1)
    cache.put(key(1), one, NOW)
    assert (cache.entries, len(cache)) == ({}, 1)
    assert cache.find(key(2)) is None
    assert cache.find(key(1)) is one
    assert cache.entries == {key(1): one}
    assert cache.find(key(1)) is one
    assert repr(cache) == "<TokenCache 1 of 64>"


def test_what_is_used_once_takes_a_small_part() -> None:
    """Whatever is used once, at most one in `SHARE` places is taken: by the newest of these."""
    cache: TokenCache[Entry] = TokenCache(4 * SHARE)
    for number in range(1000):
        use(cache, number)
        assert len(cache) == min(number + 1, 4)
    assert [cache.find(key(number)) is not None for number in range(995, 1000)] == [
        *(False, True, True, True, True),
    ]


def test_what_is_used_once_pushes_out_nothing_else() -> None:
    """A hundred times as many credentials that are used once cost no other one its place."""
    cache: TokenCache[Entry] = TokenCache(4 * SHARE)
    used = range(4 * SHARE - 4)
    for number in used:
        use_twice(cache, number)
    assert known(cache, used) == list(used)
    for number in range(1000, 1000 + 400 * SHARE):
        use(cache, number)
    assert known(cache, used) == list(used)


def test_what_returns_late_is_admitted_at_once() -> None:
    """A second use counts however many others came between, within the doorkeeper's room."""
    cache: TokenCache[Entry] = TokenCache(64)
    for number in range(64):
        use(cache, number)
    late = [number for number in range(60) if not use(cache, number)]
    assert late == list(range(60))  # all were dropped meanwhile, so they are verified again
    assert len(known(cache, range(60))) > 50


def test_the_order_in_which_entries_go() -> None:
    """A full cache puts its oldest protected entry on probation, and that is dropped in turn."""
    cache: TokenCache[Entry] = TokenCache(4)  # three protected, one on probation
    for number in (1, 1, 2, 2, 3, 3):
        use(cache, number)
    assert known(cache, range(9)) == [1, 2, 3]
    cache.put(key(4), Entry(4), NOW)  # two old entries were looked at, so 3 goes first
    assert cache.find(key(4)) is not None
    assert known(cache, range(9)) == [1, 2, 4]
    assert cache.find(key(3)) is not None  # it was on probation, and 1 is now
    assert known(cache, range(9)) == [2, 3, 4]
    cache.put(key(5), Entry(5), NOW)
    assert cache.find(key(1)) is None
    assert len(cache) == 4


def test_an_entry_that_was_pushed_out_returns_at_once() -> None:
    """The doorkeeper knows it, so that it needs one more verification, not two."""
    cache: TokenCache[Entry] = TokenCache(4)
    for number in (1, 1, 2, 2, 3, 3, 4, 4, 5):
        use(cache, number)
    gone = next(number for number in (1, 2, 3) if key(number) not in cache.entries)
    assert not use(cache, gone)
    assert key(gone) in cache.entries


def test_what_has_ended_makes_room() -> None:
    """Expired entries are dropped before valid ones, even if there is room."""
    cache: TokenCache[Entry] = TokenCache(100)
    for number in range(50):
        cache.put(key(number), Entry(number, NOW + (10 if number % 2 else 900)), NOW)
        cache.find(key(number))
    for number in range(50, 75):
        cache.put(key(number), Entry(number), NOW + 10)
    assert known(cache, range(100)) == list(range(0, 50, 2))


@pytest.mark.parametrize("protected", [False, True])
def test_put_again_replaces(*, protected: bool) -> None:
    """Putting under the same digest replaces the entry, and takes no more room."""
    cache: TokenCache[Entry] = TokenCache(8)
    for number in (1, 2, 3):
        cache.put(key(0), Entry(number), NOW)
        if protected:
            cache.find(key(0))
    found = cache.find(key(0))
    assert found is not None
    assert (found.number, len(cache)) == (3, 1)


def test_clear() -> None:
    """A cleared cache is empty and has room for all entries."""
    cache: TokenCache[Entry] = TokenCache(4)
    for _ in range(3):
        for number in (0, 0, 1, 1, 2, 2, 3):
            use(cache, number, octets=OCTETS - 1)
        assert len(cache) == 4
        cache.clear()
        assert len(cache) == 0
        assert not any(cache.find(key(number)) for number in range(4))


@pytest.mark.parametrize("size", [-1, 0, 1, 2])
def test_smallest(size: int) -> None:
    """A cache of any size holds one entry that is used again, and the newest one."""
    cache: TokenCache[Entry] = TokenCache(size)
    for number in range(100, 105):
        use(cache, 1)
        use(cache, 1)
        use(cache, number)
        assert known(cache, range(200)) == [1]
        assert cache.find(key(number)) is not None
        cache.clear()


def test_large_entries_take_the_place_of_several() -> None:
    """Entries share the memory of their segment; the newest stays even if it is larger."""
    cache: TokenCache[Entry] = TokenCache(2 * SHARE)
    used = range(2 * SHARE - 2)
    for number in used:
        use_twice(cache, number, octets=OCTETS)
    assert known(cache, used) == list(used)
    for number in (1000, 1001):
        use(cache, number, octets=2 * OCTETS)
        assert known(cache, used) == list(used)
    assert cache.find(key(1000)) is None
    assert cache.find(key(1001)) is not None
    assert len(known(cache, used)) == len(used) - 2
    for number in (2000, 2001):
        use(cache, number, octets=90 * SHARE * OCTETS)
        use(cache, number)
        assert [*cache.entries] == [key(number)]
    cache.clear()
    for number in used:
        use_twice(cache, number, octets=OCTETS)
    assert known(cache, used) == list(used)


class Model:
    """The same rules, written as plainly as possible, with the same doorkeeper."""

    def __init__(self, size: int) -> None:
        self.most = max(size, 2) - max(max(size, 2) // SHARE, 1)
        self.most_on_probation = max(max(size, 2) // SHARE, 1)
        total = max(size, 2) * OCTETS
        self.octets_on_probation = total // SHARE
        self.octets = total - self.octets_on_probation
        self.protected: OrderedDict[int, Entry] = OrderedDict()
        self.probation: OrderedDict[int, Entry] = OrderedDict()
        self.doorkeeper = Doorkeeper(max(size, 2))

    def find(self, number: int) -> Entry | None:
        """Find an entry, and protect it."""
        if number in self.probation:
            self.protect(number, self.probation.pop(number))
        return self.protected.get(number)

    def put(self, number: int, entry: Entry, now: float) -> None:
        """Add or replace an entry."""
        for oldest in list(self.protected)[:2]:
            if self.protected[oldest].until <= now:
                del self.protected[oldest]
            else:
                self.protected.move_to_end(oldest)
        if self.find(number) is not None:
            self.protected[number] = entry
            self.demote(self.most, self.octets)
        elif self.seen(number):
            self.protect(number, entry)
        else:
            self.put_on_probation(number, entry)

    def seen(self, number: int) -> bool:
        """Whether this number was seen before, as far as the doorkeeper knows."""
        return self.doorkeeper.admits(int.from_bytes(key(number)[:8], "little"))

    def protect(self, number: int, entry: Entry) -> None:
        """Add a protected entry, after those that are too many are on probation."""
        self.demote(self.most - 1, self.octets - entry.octets)
        self.protected[number] = entry

    def demote(self, most: int, octets: int) -> None:
        """Put protected entries on probation until so many, with so many octets, are left."""
        while len(self.protected) > most or (self.protected and taken(self.protected) > octets):
            number, entry = self.protected.popitem(last=False)
            self.seen(number)
            self.put_on_probation(number, entry)

    def put_on_probation(self, number: int, entry: Entry) -> None:
        """Add an entry on probation, and drop what is too much."""
        while self.probation and (
            len(self.probation) >= self.most_on_probation
            or taken(self.probation) + entry.octets > self.octets_on_probation
        ):
            self.probation.popitem(last=False)
        self.probation[number] = entry


def taken(entries: OrderedDict[int, Entry]) -> int:
    """Return the octets of all these entries."""
    return sum(entry.octets for entry in entries.values())


STEPS = st.tuples(*(st.integers(0, most) for most in (24, 2, 20, 3, 5 * OCTETS)))


@unhurried
@given(st.sampled_from([1, 2, 3, 8, 70, 100]), st.lists(STEPS, max_size=120))
def test_as_the_model(size: int, steps: list[tuple[int, int, int, int, int]]) -> None:
    """In any order of operations, the cache has the entries of the model, and keeps to its size."""
    cache: TokenCache[Entry] = TokenCache(size)
    model, now = Model(size), NOW
    for number, kind, life, passed, octets in steps:
        now += passed
        if kind:
            entry = Entry(number, now + life, octets)
            cache.put(key(number), entry, now)
            model.put(number, entry, now)
        else:
            assert cache.find(key(number)) is model.find(number)
        assert cache.entries == {key(one): entry for one, entry in model.protected.items()}
        assert len(cache) == len(model.protected) + len(model.probation)
        assert len(cache) <= max(size, 2)
        assert taken(model.protected) <= model.octets or len(model.protected) == 1
        assert taken(model.probation) <= model.octets_on_probation or len(model.probation) == 1
