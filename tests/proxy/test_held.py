"""The memory that clients share: who keeps most loses what it has kept for longest."""

from __future__ import annotations

from time import thread_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.proxy.held import HeldOctets
from tests.proxy.keeper import Keeper


def test_within_the_limit() -> None:
    """Nobody gives up while all of it is within the limit, however it changes."""
    held = HeldOctets(100)
    one, other = Keeper(), Keeper()
    held.put(one, 60)
    held.put(one, 50)
    held.put(other, 50)
    assert held.total == 100
    assert one.gave_up == other.gave_up == 0
    assert repr(held) == "<HeldOctets 100 of 100 by 2 of 1 callers>"


def test_the_oldest_gives_up() -> None:
    """Of one caller's those give up that began first, and growing makes nobody younger."""
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


def test_the_caller_that_keeps_most_loses() -> None:
    """However old a small caller's holder is, the one that keeps most gives up for another."""
    held = HeldOctets(100)
    small, *many, new = (Keeper() for _ in range(12))
    held.put(small, 10, "small")
    for each in many:
        held.put(each, 9, "large")
    held.put(new, 9, "new")
    assert small.gave_up == new.gave_up == 0
    assert [each.gave_up for each in many] == [1] + [0] * 9


def test_a_holder_keeps_its_caller() -> None:
    """What a holder keeps counts for the caller that it began with until it is done."""
    held = HeldOctets(100)
    one, other = Keeper(), Keeper()
    held.put(one, 10, "a")
    held.put(one, 60, "b")
    held.put(other, 30, "b")
    assert repr(held) == "<HeldOctets 90 of 100 by 2 of 2 callers>"
    held.put(other, 50, "b")
    assert (one.gave_up, other.gave_up) == (1, 0)


@pytest.mark.parametrize(
    ("kept", "octets", "fair", "losers"),
    [
        pytest.param([("a", 50)], 50, True, 0, id="room"),
        pytest.param([("a", 90)], 20, True, 1, id="another-keeps-more"),
        pytest.param([("a", 30), ("a", 30), ("a", 30)], 20, True, 1, id="only-what-is-needed"),
        pytest.param([("a", 30), ("a", 30), ("a", 30)], 50, True, 2, id="two-of-them"),
        pytest.param([("b", 60), ("a", 30)], 20, False, 0, id="it-keeps-most"),
        pytest.param([("a", 10), ("a", 85)], 20, True, 2, id="the-oldest-first"),
        pytest.param([("a", 10), ("c", 90)], 20, True, 2, id="the-oldest-of-all"),
        pytest.param([("a", 50), ("b", 20), ("c", 30)], 20, False, 0, id="about-as-much"),
        pytest.param([("a", 100)], 127, False, 0, id="too-large"),
    ],
)
def test_what_is_fair(kept: list[tuple[str, int]], octets: int, *, fair: bool, losers: int) -> None:
    """Caller `b` gets more room if there is some, or if another caller keeps much more."""
    held, others = HeldOctets(100), []
    for caller, amount in kept:
        others.append(Keeper())
        held.put(others[-1], amount, caller)
    before, new = held.total, Keeper()
    assert held.put_if_fair(new, octets, "b") == fair
    assert sum(each.gave_up for each in others) == losers
    assert new.gave_up == 0
    assert [each.gave_up for each in others] == [1] * losers + [0] * (len(kept) - losers)
    if not fair:
        assert held.total == before


def test_nobody_gives_up_in_vain() -> None:
    """What no number of others could make room for is refused before any of them gives up."""
    held, other = HeldOctets(100), Keeper()
    held.put(other, 90, "a")
    assert not held.put_if_fair(Keeper(), 101, "b")
    assert other.gave_up == 0


def test_many_callers_with_one_holder_each() -> None:
    """A caller's only holder is not refused for being larger than those of thousands of others."""
    held, others = HeldOctets(100), [Keeper() for _ in range(100)]
    for number, each in enumerate(others):
        held.put(each, 1, str(number))
    one, other = Keeper(), Keeper()
    held.put(one, 20, "x")
    assert held.put_if_fair(other, 20, "y")
    assert one.gave_up == other.gave_up == 0
    assert [each.gave_up for each in others] == [1] * 40 + [0] * 60


def test_growing_fairly() -> None:
    """A holder that finds no room for more keeps what it had, and may shrink."""
    held = HeldOctets(100)
    other, one, growing = Keeper(), Keeper(), Keeper()
    assert held.put_if_fair(other, 40, "a")
    assert held.put_if_fair(one, 30, "b")
    assert held.put_if_fair(growing, 30, "b")
    assert not held.put_if_fair(growing, 31, "b")
    assert held.total == 100
    assert held.put_if_fair(growing, 20, "b")
    assert held.total == 90
    assert other.gave_up == 0


def test_the_oldest_does_not_grow() -> None:
    """If it is this holder's own turn, it finds no room, and nobody else gives up."""
    held, oldest, other = HeldOctets(100), Keeper(), Keeper()
    held.put(oldest, 50, "a")
    held.put(other, 50, "b")
    assert not held.put_if_fair(oldest, 51, "a")
    assert (held.total, oldest.gave_up, other.gave_up) == (100, 0, 0)


def test_twenty_callers_that_take_what_they_can() -> None:
    """However many fill the room, one that comes later and wants little gets it."""
    held = HeldOctets(32 * 1024)
    for number in range(1000):
        held.put_if_fair(Keeper(), 64, f"attacker {number % 20}")
    assert held.total == 32 * 1024
    late = [Keeper() for _ in range(10)]
    assert all(held.put_if_fair(each, 64, "late") for each in late)
    assert not any(each.gave_up for each in late)


def test_a_choice_among_many_callers() -> None:
    """A choice among 20,000 callers takes no longer than among a few."""
    took = []
    for callers in (20, 20_000):
        held = HeldOctets(20_000 * 64)
        for number in range(20_000):
            held.put(Keeper(), 64, str(number % callers))
        began = thread_time()
        for number in range(2000):
            held.put(Keeper(), 64, str(number % callers))
        took.append(thread_time() - began)
    assert took[1] < 10 * took[0] + 0.02


class Plainly:
    """The rule of `HeldOctets` in its plainest form: one list, the oldest holder first."""

    def __init__(self) -> None:
        self.kept: dict[Keeper, int] = {}

    def __repr__(self) -> str:
        return f"<Plainly {self.kept}>"

    def put(self, keeper: Keeper, octets: int) -> None:
        """Let a holder keep so many octets; 0: it is done."""
        if octets:
            self.kept[keeper] = octets
        else:
            self.kept.pop(keeper, None)

    def total_of(self, caller: str) -> int:
        """Return what the holders of a caller keep."""
        return sum(octets for keeper, octets in self.kept.items() if keeper.name == caller)

    def candidates(self) -> set[Keeper]:
        """Return those of whom any may give up next."""
        of = {name: [each for each in self.kept if each.name == name] for name in "abc"}
        sizes = {name: self.total_of(name).bit_length() for name in "abc"}
        largest = [of[name] for name in "abc" if of[name] and sizes[name] == max(sizes.values())]
        return {some[0] if len(some) > 1 else next(iter(self.kept)) for some in largest}


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 60), st.booleans()), max_size=80))
def test_who_gives_up(steps: list[tuple[int, int, bool]]) -> None:
    """Whatever is put, the total is exact, and each one that gives up is whom the rule names."""
    held, plain = HeldOctets(100), Plainly()

    def on_give_up(loser: Keeper) -> None:
        assert loser in plain.candidates()
        assert not fairly or loser.name != keeper.name
        plain.put(loser, 0)

    keepers = [Keeper("abc"[number % 3], on_give_up) for number in range(8)]
    for number, octets, fairly in steps:
        keeper = keepers[number]
        if not fairly:
            plain.put(keeper, octets)
            held.put(keeper, octets, keeper.name)
        elif held.put_if_fair(keeper, octets, keeper.name):
            plain.put(keeper, octets)
        assert held.total == sum(plain.kept.values()) <= 100
        callers = len({each.name for each in plain.kept})
        assert f" by {len(plain.kept)} of {callers} callers" in repr(held)
