"""Owns background tasks: keeps them from the garbage collector, logs failures, ends them at close.

One `Tasks` belongs to one event loop and does not know what its tasks do. Also has two ways of
waiting: for several events, and with a time limit that tolerates a pause of this process.
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
async def patient_timeout(seconds: float, grace: float = 0.002) -> AsyncIterator[None]:
    """Raise TimeoutError if the block inside takes longer than `seconds`.

    After a pause of this process the loop runs timers before it reads sockets, so an answer that
    arrived in time may still be unread. The block therefore gets `grace` seconds more to read it.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        timer = loop.call_later(seconds, lambda: limit.reschedule(loop.time() + grace))
        try:
            yield
        finally:
            timer.cancel()


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
