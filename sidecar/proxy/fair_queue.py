"""A queue in which callers take turns, so that none waits behind all requests of another.

Pure state: knows neither what the waiters are nor what they wait for.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

Waiter = TypeVar("Waiter")


class FairQueue(Generic[Waiter]):
    """Waiters by caller: the callers take turns, and each caller's waiters leave in order.

    `size` is what `len` returns, without the call that each request would pay for.
    """

    __slots__ = ("_queues", "size")

    def __init__(self) -> None:
        self._queues: dict[str, deque[Waiter]] = {}  # in the order of the turns; none is empty
        self.size = 0

    def __repr__(self) -> str:
        return f"<FairQueue {self.size} waiting, of {len(self._queues)} callers>"

    def __len__(self) -> int:
        return self.size

    def callers(self) -> Iterator[str]:
        """The callers in the order of their turns."""
        return iter(self._queues)

    def append(self, caller: str, waiter: Waiter) -> None:
        """Add a waiter behind the others of its caller."""
        self.size += 1
        queue = self._queues.get(caller)
        if queue is None:
            self._queues[caller] = deque((waiter,))
        else:
            queue.append(waiter)

    def popleft(self) -> Waiter:
        """Remove and return the first waiter of the caller whose turn it is."""
        return self.pop_of(next(iter(self._queues)))

    def pop_of(self, caller: str) -> Waiter:
        """Remove and return the first waiter of this caller, whose next turn comes last."""
        queue = self._queues.pop(caller)
        self.size -= 1
        waiter = queue.popleft()
        if queue:
            self._queues[caller] = queue
        return waiter

    def pop_for_another(self, caller: str | None) -> Waiter | None:
        """Remove and return the next waiter that is not of this caller, if there is one."""
        for other in self._queues:
            if other != caller:
                return self.pop_of(other)
        return None

    def remove(self, caller: str, waiter: Waiter) -> bool:
        """Remove this waiter; False if it is not in the queue."""
        queue = self._queues.get(caller)
        if queue is None or waiter not in queue:
            return False
        queue.remove(waiter)
        self.size -= 1
        if not queue:
            del self._queues[caller]
        return True

    def make_room(self, caller: str) -> Waiter | None:
        """Remove and return the last waiter of the caller that has most, in favour of `caller`.

        None if `caller` itself has as many.
        """
        queue = max(self._queues.values(), key=len)
        if len(queue) <= len(self._queues.get(caller, ())):
            return None
        self.size -= 1
        waiter = queue.pop()
        if not queue:
            self._queues = {name: each for name, each in self._queues.items() if each}
        return waiter
