"""A bounded queue that is fair between flows, for work that only few can do at once.

This is self-clocked fair queueing: an entry's virtual finish time is that of the latest waiting
entry of its flow, or of the work that began last, plus the entry's cost. The smallest is next. A
flow that asks often waits behind itself and not before others. The more flows of one group wait,
the more each further one costs. Knows neither the work nor what flows and groups are.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable


_MAX_POWER: Final = 3


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request stands in the queue.

    `cost` is positive: the higher it is, the later comes its turn. Each other flow of its group
    that waits makes it tenfold, if it has a group. Above 1 it is costly. Below 1 it is
    urgent: it comes before all others, unless a request of its flow waits or works already.
    `is_gone` says whether the client has disconnected, so that its turn is skipped.
    """

    flow: bytes = b""
    group: str = ""
    cost: float = 1.0
    is_gone: Callable[[], bool] = _never

    @property
    def is_costly(self) -> bool:
        """Whether others come first."""
        return self.cost > 1.0

    @property
    def is_urgent(self) -> bool:
        """Whether it comes before others."""
        return self.cost < 1.0


class Turn(Enum):
    """How waiting ended. After READY, call `FairQueue.release` when the work is done."""

    READY = "ready"
    BUSY = "busy"  # there was no room, or another flow needed it
    GONE = "gone"  # the client disconnected


class _Entry:
    """A request that waits; `order` compares as it comes in turn, `finish` is a virtual time."""

    __slots__ = ("finish", "order", "outcome", "place")

    def __init__(self, place: Place, finish: float, order: tuple[bool, float]) -> None:
        self.place = place
        self.finish = finish
        self.order = order
        self.outcome: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"<_Entry of {self.place.group} at {self.finish:.1f}>"

    def end(self, outcome: Turn) -> None:
        """End the waiting, unless its task was cancelled just before."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class FairQueue:
    """Lets `slots` requests work at once, and at most `room` more wait, for `patience` seconds.

    One of several slots is kept free of costly requests, so that others need not wait for them.
    If there is no room, the entry that would be last is turned away, whether new or waiting.
    """

    __slots__ = ("_costly", "_patience", "_room", "_running", "_slots", "_time", "_waiting")

    def __init__(self, slots: int, room: int, patience: float = 5.0) -> None:
        self._slots = slots
        self._patience = patience
        self._room = room
        self._running: list[bytes] = []  # the flows of the requests that work
        self._costly = 0  # of those that are running
        self._time = 0.0  # the virtual finish time of the work that began last
        self._waiting: list[_Entry] = []  # in order of arrival

    def __repr__(self) -> str:
        return f"<FairQueue {len(self._running)} of {self._slots} work, {len(self._waiting)} wait>"

    async def wait(self, place: Place) -> Turn:
        """Wait for this place's turn."""
        finish = self._finish_of(place)
        if self._has_slot(place):
            self._begin(place, finish)
            return Turn.READY
        order = (not self._is_first(place), finish)
        self._make_room(order)
        if len(self._waiting) >= self._room:
            return Turn.BUSY
        entry = _Entry(place, finish, order)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(self._patience):
                return await self._outcome_of(entry)
        except TimeoutError:
            return Turn.BUSY

    async def _outcome_of(self, entry: _Entry) -> Turn:
        try:
            return await entry.outcome
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._waiting.remove(entry)
            elif not entry.outcome.cancelled() and entry.outcome.result() is Turn.READY:
                self.release(entry.place)
            raise

    def release(self, place: Place) -> None:
        """The work of this place's turn is done: the next one begins."""
        self._running.remove(place.flow)
        self._costly -= place.is_costly
        while ready := [entry for entry in self._waiting if self._has_slot(entry.place)]:
            entry = min(ready, key=_order)  # of equal ones, the first that arrived
            self._waiting.remove(entry)
            if entry.place.is_gone():
                entry.end(Turn.GONE)
            elif not entry.outcome.done():
                self._begin(entry.place, entry.finish)
                entry.end(Turn.READY)

    def _has_slot(self, place: Place) -> bool:
        if place.is_costly and self._costly >= max(self._slots - 1, 1):
            return False
        return len(self._running) < self._slots

    def _is_first(self, place: Place) -> bool:
        """Whether it is urgent, and the only request of its flow."""
        if not place.is_urgent or place.flow in self._running:
            return False
        return all(entry.place.flow != place.flow for entry in self._waiting)

    def _begin(self, place: Place, finish: float) -> None:
        self._running.append(place.flow)
        self._costly += place.is_costly
        self._time = max(self._time, finish)

    def _finish_of(self, place: Place) -> float:
        last, flows = self._time, {place.flow}
        for entry in self._waiting:
            if entry.place.flow == place.flow:
                last = max(last, entry.finish)
            elif place.group and entry.place.group == place.group:
                flows.add(entry.place.flow)
        return last + place.cost * 10.0 ** min(len(flows) - 1, _MAX_POWER)

    def _make_room(self, order: tuple[bool, float]) -> None:
        """If there is no room, remove clients that are gone, or else the entry that is last."""
        if len(self._waiting) < self._room:
            return
        gone = [entry for entry in self._waiting if entry.place.is_gone()]
        for entry in gone:
            self._waiting.remove(entry)
            entry.end(Turn.GONE)
        if gone or not self._waiting:
            return
        last = max(reversed(self._waiting), key=_order)
        if order < last.order:
            self._waiting.remove(last)
            last.end(Turn.BUSY)


def _order(entry: _Entry) -> tuple[bool, float]:
    return entry.order
