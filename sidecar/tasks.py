"""Owns background tasks: none is lost to the garbage collector or fails unseen, all end at close.

Knows nothing of what they do. One `Tasks` belongs to one event loop. And a time limit that does not
take a pause of this process for one of its peer's.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

T = TypeVar("T")

logger = logging.getLogger(__name__)


@asynccontextmanager
async def patient_timeout(seconds: float, moment: float = 0.002) -> AsyncIterator[None]:
    """Raises TimeoutError when what stands inside has not ended after so long.

    A loop that was held up runs its timers before it reads: an answer that came in time may lie
    there unread. So what is late is given a moment more, for that to be read.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        last = loop.call_later(seconds, lambda: limit.reschedule(loop.time() + moment))
        try:
            yield
        finally:
            last.cancel()


async def wait_any(seconds: float, *events: asyncio.Event | None) -> None:
    """Wait until one of these events is set, `seconds` at most."""
    waiters = [asyncio.create_task(event.wait()) for event in events if event is not None]
    if not waiters:
        await asyncio.sleep(seconds)
        return
    try:
        await asyncio.wait(waiters, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in waiters:
            waiter.cancel()
        await asyncio.wait(waiters)  # none is left behind


class Tasks:
    """Background tasks under names. After `close` no more can be started."""

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
        """Start a task; a fault in it is logged once, with its name. RuntimeError after `close`."""
        if self._closed:
            work.close()
            raise RuntimeError(f"task {name} started after close")
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    async def close(self) -> None:
        """Cancel every task and wait until all have ended, their cleaning up included."""
        self._closed = True
        while self._running:
            for task in self._running:
                task.cancel()
            await asyncio.wait(self._running)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            logger.error("task %s failed", task.get_name(), exc_info=fault)
