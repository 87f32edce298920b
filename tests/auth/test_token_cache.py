"""The bounded cache: what is in use stays, and it never grows beyond its size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.auth.token_cache import TokenCache
from tests.auth.forge import unhurried


def key(number: int) -> bytes:
    """A digest of its own for each number."""
    return number.to_bytes(32)


def test_get_and_put() -> None:
    """What was put is found, what was not is None."""
    cache: TokenCache[str] = TokenCache(4)
    cache.put(key(1), "one")
    assert (cache.get(key(1)), cache.get(key(2))) == ("one", None)
    assert repr(cache) == "<TokenCache 1 of 4>"


def test_used_entries_stay() -> None:
    """An entry that is asked for outlives any number of others; one that is not goes."""
    cache: TokenCache[int] = TokenCache(8)
    cache.put(key(0), 0)
    cache.put(key(1), 1)
    for number in range(2, 100):
        cache.put(key(number), number)
        assert cache.get(key(0)) == 0
    assert cache.get(key(1)) is None


def test_put_again_replaces() -> None:
    """Putting under the same digest replaces the entry, young or old, and takes no more room."""
    cache: TokenCache[str] = TokenCache(4)
    cache.put(key(1), "a")
    cache.put(key(1), "b")
    assert (len(cache), cache.get(key(1))) == (1, "b")
    cache.put(key(2), "")
    cache.put(key(3), "")
    cache.put(key(1), "c")
    assert (len(cache), cache.get(key(1))) == (3, "c")


def test_clear() -> None:
    """After clearing there is nothing left, young or old."""
    cache: TokenCache[int] = TokenCache(4)
    for number in range(4):
        cache.put(key(number), number)
    cache.clear()
    assert len(cache) == 0
    assert [cache.get(key(number)) for number in range(4)] == [None] * 4


@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_smallest(size: int) -> None:
    """However small it is made, it holds the newest entry and at most one more."""
    cache: TokenCache[int] = TokenCache(size)
    for number in range(5):
        cache.put(key(number), number)
        assert cache.get(key(number)) == number
        assert len(cache) <= 2


@unhurried
@given(
    st.integers(2, 12),
    st.lists(st.tuples(st.sampled_from(["get", "put", "young"]), st.integers(0, 15)), max_size=60),
)
def test_bounded_and_true(size: int, steps: list[tuple[str, int]]) -> None:
    """Whatever happens, it stays within its size and never answers with another's entry."""
    cache: TokenCache[int] = TokenCache(size)
    known = set()
    for verb, number in steps:
        if verb == "put":
            cache.put(key(number), number)
            known.add(number)
            assert cache.get(key(number)) == number
        elif verb == "get":
            assert cache.get(key(number)) in ({number, None} if number in known else {None})
        else:
            assert cache.young.get(key(number), number) == number
        assert len(cache) <= max(size, 2)
        assert len(cache.young) + len(known) >= len(cache)
