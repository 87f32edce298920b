"""The doorkeeper: what comes a second time is admitted, in constant memory."""

from __future__ import annotations

import random

import pytest

from sidecar.auth.doorkeeper import Doorkeeper

PLACES = 16  # of a doorkeeper for 8


def number(place: int, other: int, mark: int) -> int:
    """A number with these places in a doorkeeper with `PLACES`."""
    return place | other << 24 | mark << 32


def test_the_second_time() -> None:
    """A number is admitted from its second time on; others are not."""
    doorkeeper = Doorkeeper(8)
    one, two = number(1, 2, 5), number(1, 2, 6)
    assert [doorkeeper.admits(each) for each in (one, one, two, one, two)] == [
        *(False, True, False, True, True),
    ]
    assert repr(doorkeeper) == "<Doorkeeper with 16 places>"


@pytest.mark.parametrize("size", [1, 2, 3, 8, 1000])
def test_negative_numbers(size: int) -> None:
    """`hash` gives negative numbers as well, and any size has room for one number."""
    doorkeeper = Doorkeeper(size)
    for value in (-1, -(1 << 63), 7 << 32):
        assert not doorkeeper.admits(value)
        assert doorkeeper.admits(value)


def test_numbers_that_share_both_places() -> None:
    """Two of them are both admitted; a third takes the place of one of them then."""
    doorkeeper = Doorkeeper(8)
    one, two, three = (number(1, 2, mark) for mark in (5, 6, 7))
    for each in (one, two):
        doorkeeper.admits(each)
    assert [doorkeeper.admits(each) for each in (one, two, three, three)] == [
        *(True, True, False, True),
    ]


def test_numbers_that_share_one_place_and_come_in_turn() -> None:
    """None keeps another out for ever, however the others come between."""
    doorkeeper = Doorkeeper(PLACES // 2)
    sharing = [number(3, other, 100 + other) for other in range(4, 8)]
    admitted = [doorkeeper.admits(each) for _ in range(12) for each in sharing]
    assert all(any(admitted[turn :: len(sharing)]) for turn in range(len(sharing)))


def test_room() -> None:
    """It recognises most of as many numbers as it has room for, and hardly any that are new."""
    rng = random.Random(1)
    doorkeeper = Doorkeeper(4096)
    first = [rng.getrandbits(64) for _ in range(4096)]
    assert sum(map(doorkeeper.admits, first)) == 0
    assert sum(map(doorkeeper.admits, first)) > 3000
    assert sum(doorkeeper.admits(rng.getrandbits(64)) for _ in range(100_000)) == 0
