"""Which upstream connections exist and which of them are leased: pure state, no I/O, no clock.

Every assignment changes the state at once, so that a slot can neither be given twice nor leak. A
slot is opening, leased or idle; its holder returns it with `opened`, `not_opened`, `release` or
`discard`.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from sidecar.proxy.fair_queue import FairQueue


class Reusable(Protocol):
    """A connection that says whether another request may be sent on it."""

    reusable: bool

    def __hash__(self) -> int: ...


Connection = TypeVar("Connection", bound=Reusable)
Waiter = TypeVar("Waiter")


class Pool(Generic[Connection, Waiter]):
    """At most `limit` connections; the most recently used is taken first, so that others age."""

    __slots__ = ("_limit", "idle", "leased", "opening", "waiting")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.idle: list[Connection] = []
        self.leased: set[Connection] = set()
        self.opening = 0
        self.waiting: FairQueue[Waiter] = FairQueue()

    def __repr__(self) -> str:
        return (
            f"<Pool idle={len(self.idle)} leased={len(self.leased)} opening={self.opening} "
            f"waiting={len(self.waiting)} limit={self._limit}>"
        )

    def take(self) -> Connection | None:
        """Lease an idle connection; None if there is none."""
        while self.idle:
            connection = self.idle.pop()
            self.leased.add(connection)  # a closing one too, until it is discarded
            if connection.reusable:
                return connection
        return None

    def reserve(self) -> bool:
        """Reserve a slot if one is free; the caller must call `opened` or `not_opened`."""
        if len(self.idle) + len(self.leased) + self.opening >= self._limit:
            return False
        self.opening += 1
        return True

    def opened(self, connection: Connection) -> None:
        """Turn the reserved slot into a connection that the caller leases."""
        self.opening -= 1
        self.leased.add(connection)

    def not_opened(self) -> None:
        """Free the reserved slot."""
        self.opening -= 1

    def release(self, connection: Connection) -> Waiter | None:
        """Return a connection: it is now leased to the returned waiter, or idle if that is None."""
        if self.waiting.size:
            return self.waiting.popleft()
        self.leased.discard(connection)
        self.idle.append(connection)
        return None

    def discard(self, connection: Connection) -> bool:
        """Forget a connection that has closed; False if it is not in this pool."""
        if connection in self.leased:
            self.leased.remove(connection)
            return True
        if connection in self.idle:
            self.idle.remove(connection)
            return True
        return False
