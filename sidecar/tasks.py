"""Owns background tasks: keeps them from the garbage collector, logs failures, ends them at close.

One `Tasks` belongs to one event loop and does not know what its tasks do. Also has two ways of
waiting: for several events, and with a time limit that tolerates a pause of this process.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType

T = TypeVar("T")

_SLICES: Final = 10  # more than connecting to a server and asking it takes turns of the loop
_TURNS: Final = 8  # of the loop: reading and processing an answer of several pieces takes three

logger = logging.getLogger(__name__)


class PatientTimeout:
    """Raises TimeoutError if its block takes longer than `seconds` in which the loop was free.

    After a pause, the loop runs timers before it reads sockets, so an answer that arrived in time
    may still be unread. The time is therefore counted in slices. A slice for which the loop is late
    counts as one slice, however long the loop was busy, and the loop reads between two slices.
    After the last one, the block gets a few more turns of the loop to process what has arrived.
    """

    __slots__ = ("_handle", "_limit", "_loop", "_slice", "_slices", "_turns")

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit = asyncio.timeout(None)
        self._slice = max(0.0, seconds) / _SLICES
        self._slices = _SLICES
        self._turns = _TURNS
        self._handle: asyncio.Handle | None = None

    def __repr__(self) -> str:
        return f"<PatientTimeout {self.left:.3f} s left>"

    async def __aenter__(self) -> Self:
        await self._limit.__aenter__()
        self._handle = self._loop.call_later(self._slice, self._end_slice)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._handle is not None:
            self._handle.cancel()
        await self._limit.__aexit__(kind, error, trace)

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return self._slice * self._slices

    def _end_slice(self) -> None:
        self._slices -= 1
        if self._slices:
            self._handle = self._loop.call_later(self._slice, self._end_slice)
        else:
            self._handle = self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._turns -= 1
        if self._turns:
            self._handle = self._loop.call_soon(self._end_turn)
        else:
            self._limit.reschedule(self._loop.time())


async def wait_any(seconds: float, *events: asyncio.Event | None) -> None:
    """Wait until one of the events is set, for at most `seconds`. None stands for no event."""
    waiters = [asyncio.create_task(event.wait()) for event in events if event is not None]
    if not waiters:
        await asyncio.sleep(seconds)
        return
    try:
        await asyncio.wait(waiters, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in waiters:
            waiter.cancel()
        await asyncio.wait(waiters)  # until every cancelled task has ended


class Tasks:
    """Named background tasks. After `close` no task can be started."""

    __slots__ = ("_closed", "_running")

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __repr__(self) -> str:
        names = ", ".join(sorted(task.get_name() for task in self._running))
        return f"<Tasks {'closed' if self._closed else 'open'}: {names or 'none'}>"

    def __len__(self) -> int:
        return len(self._running)

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Start a task; an exception in it is logged with its name. RuntimeError after `close`."""
        if self._closed:
            work.close()
            raise RuntimeError(f"task {name} started after close")
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    async def close(self) -> None:
        """Cancel every task and wait until all have ended, including their clean-up."""
        self._closed = True
        while self._running:
            for task in self._running:
                task.cancel()
            await asyncio.wait(self._running)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            logger.error("task %s failed", task.get_name(), exc_info=fault)
