"""Remembers what was seen before, in eight octets each: a hint for a cache, never a proof.

A cache admits by it what comes a second time, so that what comes once takes no room. Pure; knows
nothing of what is seen.
"""

from __future__ import annotations

from mmap import mmap
from typing import Final

_OTHER_PLACE: Final = 24  # the bits of a number that say where its two places are, and its mark
_MARK: Final = 32
_MARK_BITS: Final = (1 << 32) - 1


class Doorkeeper:
    """Has room for about `size` numbers of 64 random bits, as a digest or `hash` gives them.

    Each number has two places, and its mark, half of its bits, may be in either. A new mark takes
    a free one, or else one of them in turn. So no two numbers keep each other out for ever. One
    number in a billion is taken for another, and admitted too early: only room may depend on this.
    """

    __slots__ = ("_marks", "_mask", "_turn")

    def __init__(self, size: int) -> None:
        places = 1 << max(2 * size - 1, 1).bit_length()
        self._mask = places - 1
        # Fresh pages of the kernel are zero, and take no memory until a mark is written there.
        self._marks = memoryview(mmap(-1, 4 * places)).cast("I")
        self._turn = False

    def __repr__(self) -> str:
        return f"<Doorkeeper with {len(self._marks)} places>"

    def admits(self, number: int) -> bool:
        """Whether this number was seen before. It counts as seen from now on."""
        marks, mark = self._marks, (number >> _MARK) & _MARK_BITS
        place, other = number & self._mask, (number >> _OTHER_PLACE) & self._mask
        if mark in (marks[place], marks[other]):
            return True
        if marks[place]:
            self._turn = not self._turn
            if self._turn or not marks[other]:
                place = other
        marks[place] = mark
        return False
