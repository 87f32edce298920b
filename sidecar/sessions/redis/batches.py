"""Batches look-ups: one batch per loop tick, and never two look-ups of one key at a time.

Each caller waits on its own future, so a caller that is cancelled does not affect the others. Knows
nothing of Redis; the fetch function is an argument.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from itertools import chain
from time import perf_counter
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from sidecar.tasks import Tasks

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class LookupBatcher(Generic[K, T]):
    """Fetches values by key, in at most `parallel` concurrent batches of at most `size` keys.

    `fetch(keys, since)` returns the values in order; `since` is the time.perf_counter() value at
    which the oldest key was requested. While all batches are busy, further keys wait for the next.
    """

    __slots__ = (
        *("_fetch", "_in_flight", "_parallel", "_running", "_scheduled", "_since", "_size"),
        *("_tasks", "_waiting"),
    )

    def __init__(
        self,
        fetch: Callable[[Sequence[K], float], Awaitable[Sequence[T]]],
        tasks: Tasks,
        *,
        parallel: int,
        size: int = 256,
    ) -> None:
        self._fetch = fetch
        self._tasks = tasks
        self._parallel = parallel
        self._size = size
        self._running = 0
        self._scheduled = False
        self._since = 0.0
        self._waiting: dict[K, list[asyncio.Future[T]]] = {}  # not sent yet
        self._in_flight: dict[K, list[asyncio.Future[T]]] = {}

    def __repr__(self) -> str:
        return f"<LookupBatcher {self._running} in flight, {len(self._waiting)} keys waiting>"

    def ask(self, key: K) -> asyncio.Future[T]:
        """A future of the key's value, or of the exception that `fetch` raised.

        Raises RuntimeError after `close`.
        """
        if self._parallel == 0:
            raise RuntimeError("session looked up after close")
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[T] = loop.create_future()
        joined = self._in_flight.get(key)
        if joined is not None:
            joined.append(waiter)
            return waiter
        if not self._waiting:
            self._since = perf_counter()
        self._waiting.setdefault(key, []).append(waiter)
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._send)
        return waiter

    def invalidate(self, key: K) -> None:
        """The value changes now: later callers must not share a look-up that is in flight."""
        self._in_flight.pop(key, None)

    def close(self) -> None:
        """Refuse further look-ups, and cancel those that were not sent."""
        self._parallel = 0
        for waiter in _waiters(self._waiting):
            waiter.cancel()
        self._waiting.clear()

    def _send(self) -> None:
        self._scheduled = False
        while self._waiting and self._running < self._parallel:
            if len(self._waiting) <= self._size:
                batch, self._waiting = self._waiting, {}
            else:
                keys = list(self._waiting)[: self._size]
                batch = {key: self._waiting.pop(key) for key in keys}
            self._in_flight |= batch
            self._running += 1
            self._tasks.spawn(self._run(batch, self._since), "session look-up")

    async def _run(self, batch: dict[K, list[asyncio.Future[T]]], since: float) -> None:
        try:
            values = await self._fetch(tuple(batch), since)
        except asyncio.CancelledError:
            for waiter in _waiters(batch):
                waiter.cancel()
            raise
        except Exception as fault:  # noqa: BLE001 - callers get every exception
            for waiter in _waiters(batch):
                if not waiter.done():
                    waiter.set_exception(fault)
        else:
            for waiters, value in zip(batch.values(), values, strict=True):
                for waiter in waiters:
                    if not waiter.done():
                        waiter.set_result(value)
        finally:
            self._finish(batch)

    def _finish(self, batch: dict[K, list[asyncio.Future[T]]]) -> None:
        self._running -= 1
        for key, waiters in batch.items():
            if self._in_flight.get(key) is waiters:
                del self._in_flight[key]
        if self._waiting and not self._scheduled:
            self._send()


def _waiters(batch: dict[K, list[asyncio.Future[T]]]) -> Iterator[asyncio.Future[T]]:
    return chain.from_iterable(batch.values())
