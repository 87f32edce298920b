"""A bound on the memory that many connections share; beyond it, the oldest holder gives up.

Pure bookkeeping. Must not know what the holders keep or what giving up means.
"""

from __future__ import annotations

from typing import Protocol


class Holder(Protocol):
    """Something that keeps octets, by identity."""

    def give_up(self) -> None:
        """Keep nothing any more; the caller has already forgotten this holder."""


class HeldOctets:
    """The octets that holders keep, at most `limit` in total.

    A single connection may keep a whole head or the body of a login, but thousands may not. Those
    that began first then give up. A client that sends a request without pauses completes it long
    before its connection is the oldest.
    """

    __slots__ = ("_held", "_limit", "total")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[Holder, int] = {}  # the oldest first: a new value keeps its place
        self.total = 0

    def __repr__(self) -> str:
        return f"<HeldOctets {self.total} of {self._limit} by {len(self._held)}>"

    def put(self, holder: Holder, octets: int) -> None:
        """Let a holder keep this many octets instead of what it kept before; 0: it is done.

        While the total is over the limit, the holder that has kept something for the longest time
        gives up. That may be `holder` itself.
        """
        if not octets:
            self.drop(holder)
            return
        self.total += octets - self._held.get(holder, 0)
        self._held[holder] = octets
        while self.total > self._limit:
            oldest = next(iter(self._held))
            self.drop(oldest)
            oldest.give_up()

    def drop(self, holder: Holder) -> None:
        """A holder keeps nothing any more, or has gone."""
        self.total -= self._held.pop(holder, 0)
