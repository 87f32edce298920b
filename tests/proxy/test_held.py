"""The memory that many connections share: those that have kept something longest give up first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.proxy.held import HeldOctets


class Keeper:
    """A holder that notes that it gave up."""

    def __init__(self) -> None:
        self.gave_up = 0

    def give_up(self) -> None:
        """Count the call."""
        self.gave_up += 1


def test_within_the_limit() -> None:
    """Nobody gives up while all of it is within the limit, however it changes."""
    held = HeldOctets(100)
    one, other = Keeper(), Keeper()
    held.put(one, 60)
    held.put(one, 50)
    held.put(other, 50)
    assert held.total == 100
    assert one.gave_up == other.gave_up == 0
    assert repr(held) == "<HeldOctets 100 of 100 by 2>"


def test_the_oldest_gives_up() -> None:
    """Beyond the limit, those give up that began first, and growing makes nobody younger."""
    held = HeldOctets(100)
    first, second, third = Keeper(), Keeper(), Keeper()
    for each in (first, second, third):
        held.put(each, 30)
    held.put(first, 40)
    held.put(third, 31)
    assert (first.gave_up, second.gave_up, third.gave_up) == (1, 0, 0)
    assert held.total == 61


def test_one_that_is_too_large_by_itself() -> None:
    """A holder that alone exceeds the limit gives up, after everyone older."""
    held = HeldOctets(100)
    older, large = Keeper(), Keeper()
    held.put(older, 10)
    held.put(large, 101)
    assert (older.gave_up, large.gave_up) == (1, 1)
    assert held.total == 0


def test_one_that_is_done() -> None:
    """A holder that is done no longer counts, and begins anew with the next octets."""
    held = HeldOctets(100)
    one, other = Keeper(), Keeper()
    held.put(one, 50)
    held.put(other, 50)
    held.put(one, 0)
    held.drop(one)
    held.put(one, 60)
    assert (one.gave_up, other.gave_up) == (0, 1)
    assert held.total == 60


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 60)), max_size=60))
def test_the_total_is_that_of_all_holders(steps: list[tuple[int, int]]) -> None:
    """Whatever is put, the total is exact and within the limit."""
    held = HeldOctets(100)
    keepers = [Keeper() for _ in range(6)]
    kept = dict.fromkeys(range(6), 0)
    for number, octets in steps:
        before = [each.gave_up for each in keepers]
        held.put(keepers[number], octets)
        kept[number] = octets
        for each, (keeper, gave_up) in enumerate(zip(keepers, before, strict=True)):
            if keeper.gave_up > gave_up:
                kept[each] = 0
        assert held.total == sum(kept.values()) <= 100
