"""Divides a limited number of units among callers, so that some is always left for another one.

Pure state: knows neither what the units are nor what a caller is.
"""

from __future__ import annotations


class FairShare:
    """`limit` units; a caller may hold no more of them than it leaves free for all others.

    A single caller can therefore hold half of the limit, and each of n callers that want as much as
    they can get holds 1/(n + 1) of it. No caller needs to be known beforehand.
    """

    __slots__ = ("_held", "limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._held: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<FairShare {self.used} of {self.limit} used by {len(self._held)} callers>"

    def take(self, caller: str, units: int = 1) -> bool:
        """Give the caller so many more units, or none and False if that is more than its share."""
        held = self._held.get(caller, 0) + units
        if held > self.limit - self.used:
            return False
        if units:
            self._held[caller] = held
            self.used += units
        return True

    def give_back(self, caller: str, units: int = 1) -> None:
        """Take back units that the caller holds."""
        left = self._held.get(caller, 0) - units
        if left:
            self._held[caller] = left
        else:
            self._held.pop(caller, None)
        self.used -= units
