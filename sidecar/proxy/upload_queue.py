"""Which requests with unfinished bodies may have a connection of a pool, and which of them wait.

Pure state, no I/O, no clock: as `Pool`, whose connections it shares out.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Generic, TypeVar

from sidecar.proxy.fair_queue import FairQueue
from sidecar.proxy.fair_share import FairShare

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

Waiter = TypeVar("Waiter", bound="Hashable")
Reader = TypeVar("Reader")


class UploadQueue(Generic[Waiter]):
    """At most `limit` uploads have a connection, shared out fairly among callers.

    `end` must follow for each one that was admitted.
    """

    __slots__ = ("_admitted", "share", "waiting")

    def __init__(self, limit: int) -> None:
        self.share = FairShare(limit)
        self._admitted: dict[Waiter, str] = {}  # with their callers
        self.waiting: FairQueue[Waiter] = FairQueue()

    def __repr__(self) -> str:
        return f"<UploadQueue admitted={len(self._admitted)} waiting={len(self.waiting)}>"

    def admit(self, waiter: Waiter, caller: str) -> bool:
        """Admit an upload if its caller may have another connection."""
        if not self.share.take(caller):
            return False
        self._admitted[waiter] = caller
        return True

    def next(self) -> Waiter | None:
        """Admit and return the next waiting upload whose caller may have another connection."""
        for caller in self.waiting.callers():
            if self.share.take(caller):
                waiter = self.waiting.pop_of(caller)
                self._admitted[waiter] = caller
                return waiter
        return None

    def end(self, waiter: Waiter) -> bool:
        """Forget an upload; whether it was admitted, so that another one may now be."""
        caller = self._admitted.pop(waiter, None)
        if caller is None:
            return False
        self.share.give_back(caller)
        return True


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
