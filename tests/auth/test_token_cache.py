"""The token cache: valid entries stay while there is room, and it never exceeds its size."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.auth.token_cache import OCTETS, TokenCache
from tests.auth.forge import unhurried

NOW = 1000.0


@dataclass
class Entry:
    """An entry with an expiry."""

    number: int
    until: float = NOW + 900.0
    octets: int = 0


def key(number: int) -> bytes:
    """Return a unique digest for a number."""
    return number.to_bytes(32)


def numbers(cache: TokenCache[Entry]) -> list[int]:
    """Return the numbers of the entries in the cache."""
    return sorted(entry.number for entry in cache.entries.values())


def test_put() -> None:
    """The cache contains what was put into it, and nothing else."""
    cache: TokenCache[Entry] = TokenCache(4)
    one = Entry(1)
    cache.put(key(1), one, NOW)
    assert cache.entries == {key(1): one}
    assert repr(cache) == "<TokenCache 1 of 4>"


def test_as_many_as_there_is_room_for() -> None:
    """Entries stay up to the size of the cache; one more evicts one."""
    cache: TokenCache[Entry] = TokenCache(8)
    for number in [*range(8), *range(8)]:
        cache.put(key(number), Entry(number), NOW)
    assert numbers(cache) == list(range(8))
    cache.put(key(8), Entry(8), NOW)
    assert len(cache) == 8
    assert 8 in numbers(cache)


def test_what_has_ended_makes_room() -> None:
    """Expired entries are dropped before valid ones, even if there is room."""
    cache: TokenCache[Entry] = TokenCache(100)
    for number in range(50):
        cache.put(key(number), Entry(number, NOW + (10 if number % 2 else 900)), NOW)
    for number in range(50, 75):
        cache.put(key(number), Entry(number), NOW + 10)
    assert numbers(cache) == [*range(0, 50, 2), *range(50, 75)]


def test_put_again_replaces() -> None:
    """Putting under the same digest replaces the entry, and takes no more room."""
    cache: TokenCache[Entry] = TokenCache(2)
    for number in (1, 2, 3):
        cache.put(key(0), Entry(number), NOW)
    assert numbers(cache) == [3]
    cache.put(key(1), Entry(1), NOW)
    assert numbers(cache) == [1, 3]


def test_clear() -> None:
    """A cleared cache is empty and has room for all entries."""
    cache: TokenCache[Entry] = TokenCache(4)
    for number in range(4):
        cache.put(key(number), Entry(number), NOW)
    cache.clear()
    assert len(cache) == 0
    for number in range(4):
        cache.put(key(number), Entry(number), NOW)
    assert numbers(cache) == [0, 1, 2, 3]


@pytest.mark.parametrize("size", [-1, 0, 1])
def test_smallest(size: int) -> None:
    """A cache of any size holds at least the newest entry."""
    cache: TokenCache[Entry] = TokenCache(size)
    for number in range(5):
        cache.put(key(number), Entry(number), NOW)
        assert numbers(cache) == [number]


def test_large_entries_take_the_place_of_several() -> None:
    """Entries share the memory of the cache; the newest stays even if it is larger than that."""
    cache: TokenCache[Entry] = TokenCache(8)
    for number in range(8):
        cache.put(key(number), Entry(number, octets=OCTETS), NOW)
    assert numbers(cache) == list(range(8))
    cache.put(key(8), Entry(8, octets=3 * OCTETS), NOW)
    assert len(cache) == 6
    assert 8 in numbers(cache)
    for number in (9, 10):
        cache.put(key(number), Entry(number, octets=9 * OCTETS), NOW)
        assert numbers(cache) == [number]
    cache.clear()
    for number in range(8):
        cache.put(key(number), Entry(number, octets=OCTETS), NOW)
    assert numbers(cache) == list(range(8))


@unhurried
@given(
    st.integers(1, 12),
    st.lists(st.tuples(*(st.integers(0, most) for most in (15, 20, 3, 5 * OCTETS))), max_size=60),
)
def test_bounded_and_true(size: int, steps: list[tuple[int, int, int, int]]) -> None:
    """In any order of operations, the cache keeps to its size and has the newest values."""
    cache: TokenCache[Entry] = TokenCache(size)
    newest: dict[int, Entry] = {}
    now = NOW
    first: dict[int, int] = {}
    for number, life, passed, octets in steps:
        now += passed
        if key(number) not in cache.entries:
            first[number] = octets
        newest[number] = entry = Entry(number, now + life, octets)
        cache.put(key(number), entry, now)
        assert cache.entries[key(number)] is entry
        assert len(cache) <= size
        taken = sum(first[one.number] for one in cache.entries.values())
        assert taken <= size * OCTETS or len(cache) == 1
        assert all(newest[one.number] is one for one in cache.entries.values())
