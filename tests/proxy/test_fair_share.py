"""Shares of a limit: no caller takes what another one needs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.proxy.fair_share import FairShare


@pytest.mark.parametrize(("limit", "share"), [(1, 1), (2, 1), (3, 2), (8, 4), (128, 64)])
def test_one_caller_gets_half(limit: int, share: int) -> None:
    """A single caller holds no more than it leaves free, which is half, but at least one unit."""
    divided = FairShare(limit)
    assert sum(divided.take("a") for _ in range(2 * limit)) == share
    assert divided.used == share


def test_more_callers_get_less_each() -> None:
    """Each of two greedy callers gets a third, and a third is left."""
    divided = FairShare(90)
    for _ in range(90):
        divided.take("a")
        divided.take("b")
    assert repr(divided) == "<FairShare 60 of 90 used by 2 callers>"
    assert divided.take("c", 30)


def test_nothing_is_kept_of_a_caller_that_has_nothing() -> None:
    """A caller that has given everything back, or never held anything, is forgotten."""
    divided = FairShare(8)
    assert divided.take("a", 3)
    assert divided.take("b", 0)
    divided.give_back("a", 2)
    divided.give_back("a")
    divided.give_back("c", 0)
    assert repr(divided) == "<FairShare 0 of 8 used by 0 callers>"
    assert divided.take("a", 8)


STEPS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.booleans()))


@given(st.integers(1, 40), STEPS)
def test_the_limit_holds(limit: int, steps: list[tuple[str, int, bool]]) -> None:
    """Whatever is taken and given back, the sum is right and within the limit."""
    divided, held = FairShare(limit), dict.fromkeys("abc", 0)
    for caller, units, give in steps:
        if give:
            returned = min(units, held[caller])
            divided.give_back(caller, returned)
            held[caller] -= returned
        else:
            free = limit - sum(held.values())
            fits = held[caller] + units <= free
            assert divided.take(caller, units) == fits
            held[caller] += units * fits
        assert divided.used == sum(held.values()) <= limit
