"""Which requests with unfinished bodies may have a connection of a pool, and which of them wait.

Pure state, no I/O, no clock: as `Pool`, whose connections it shares out.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Generic, TypeVar

from sidecar.proxy.fair_queue import FairQueue

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

Waiter = TypeVar("Waiter", bound="Hashable")
Reader = TypeVar("Reader")


class UploadQueue(Generic[Waiter]):
    """At most `limit` uploads have a connection, shared out fairly among callers.

    A caller may have no more of them than it leaves free for all others: a single one half, each of
    two a third. So a caller finds room whom nobody knew beforehand. When many callers have left
    nothing, slow uploads of those with most of them are replaced. `end` must follow for each upload
    that was admitted and not replaced.
    """

    __slots__ = ("_numbers", "admitted", "limit", "waiting")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.admitted: dict[Waiter, str] = {}  # with their callers
        self._numbers: Counter[str] = Counter()  # of those, by caller, without zeros
        self.waiting: FairQueue[Waiter] = FairQueue()

    def __repr__(self) -> str:
        return f"<UploadQueue admitted={len(self.admitted)} waiting={len(self.waiting)}>"

    def admit(self, waiter: Waiter, caller: str) -> bool:
        """Admit an upload if its caller may have another connection."""
        if self._numbers[caller] >= self.limit - len(self.admitted):
            return False
        self._add(waiter, caller)
        return True

    def next(self) -> Waiter | None:
        """Admit and return the next waiting upload whose caller may have another connection."""
        free = self.limit - len(self.admitted)
        for caller in self.waiting.callers():
            if self._numbers[caller] < free:
                waiter = self.waiting.pop_of(caller)
                self._add(waiter, caller)
                return waiter
        return None

    def replace(self, slow: Iterable[tuple[float, Waiter]]) -> list[tuple[Waiter, Waiter]]:
        """Admit waiting uploads in place of slow ones; returns pairs of a slow one and another.

        `slow` are admitted ones, with the times since when they are. The caller with most uploads
        loses its slowest one to a caller with fewest, if it has two more than that, so that nothing
        goes back and forth.
        """
        left: dict[str, list[tuple[float, Waiter]]] = {}
        for since, waiter in sorted(slow, key=lambda each: -each[0]):
            left.setdefault(self.admitted[waiter], []).append((since, waiter))
        pairs = []
        while left:
            worst = max(left, key=self._numbers.__getitem__)
            caller = min(self.waiting.callers(), key=self._numbers.__getitem__, default=None)
            if caller is None or self._numbers[caller] > self._numbers[worst] - 2:
                break
            _, loser = left[worst].pop()
            if not left[worst]:
                del left[worst]
            self.end(loser)
            waiter = self.waiting.pop_of(caller)
            self._add(waiter, caller)
            pairs.append((loser, waiter))
        return pairs

    def end(self, waiter: Waiter) -> bool:
        """Forget an upload; whether it was admitted, so that another one may now be."""
        caller = self.admitted.pop(waiter, None)
        if caller is None:
            return False
        self._numbers[caller] -= 1
        if not self._numbers[caller]:
            del self._numbers[caller]
        return True

    def _add(self, waiter: Waiter, caller: str) -> None:
        self.admitted[waiter] = caller
        self._numbers[caller] += 1


def choose_in_turn(readers: Iterable[tuple[str, float, Reader]], count: int) -> list[Reader]:
    """Choose so many of (caller, since, reader), each from the caller with the most of them left.

    Of one caller's, the earliest is chosen first.
    """
    left = sorted(readers, key=lambda each: each[1])
    callers = Counter(caller for caller, _, _ in left)
    chosen = []
    for _ in range(count):
        worst = max(left, key=lambda each: callers[each[0]])
        left.remove(worst)
        callers[worst[0]] -= 1
        chosen.append(worst[2])
    return chosen
