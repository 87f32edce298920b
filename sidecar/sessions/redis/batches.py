"""Joins look-ups: those of one loop tick go out as one, and one key is asked for once at a time.

Each caller waits on a future of its own, so that one that goes away takes nothing with it. Knows
nothing of Redis; what is fetched, and how, is given.
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
    """Fetches by key, in at most `parallel` batches at a time of at most `size` keys.

    `fetch(keys, since)` returns the values in order; `since`, of time.perf_counter, is when the
    oldest of them was asked for. While all batches are under way, what is asked for gathers.
    """

    __slots__ = (
        *("_fetch", "_parallel", "_running", "_scheduled", "_since", "_size", "_tasks"),
        *("_under_way", "_waiting"),
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
        self._under_way: dict[K, list[asyncio.Future[T]]] = {}

    def __repr__(self) -> str:
        return f"<LookupBatcher {self._running} under way, {len(self._waiting)} keys waiting>"

    def ask(self, key: K) -> asyncio.Future[T]:
        """The value, in time. Raises what `fetch` raises."""
        if self._parallel == 0:
            raise RuntimeError("session looked up after close")
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[T] = loop.create_future()
        joined = self._under_way.get(key)
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

    def forget(self, key: K) -> None:
        """The value changes now: who asks from here on shall not get an answer sent for before."""
        self._under_way.pop(key, None)

    def close(self) -> None:
        """Take no more; those not sent yet are cancelled."""
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
            self._under_way |= batch
            self._running += 1
            self._tasks.spawn(self._answer(batch, self._since), "session look-up")

    async def _answer(self, batch: dict[K, list[asyncio.Future[T]]], since: float) -> None:
        try:
            values = await self._fetch(tuple(batch), since)
        except asyncio.CancelledError:
            for waiter in _waiters(batch):
                waiter.cancel()
            raise
        except Exception as fault:  # noqa: BLE001 - every one is for those who asked
            for waiter in _waiters(batch):
                if not waiter.done():
                    waiter.set_exception(fault)
        else:
            for waiters, value in zip(batch.values(), values, strict=True):
                for waiter in waiters:
                    if not waiter.done():
                        waiter.set_result(value)
        finally:
            self._ended(batch)

    def _ended(self, batch: dict[K, list[asyncio.Future[T]]]) -> None:
        self._running -= 1
        for key, waiters in batch.items():
            if self._under_way.get(key) is waiters:
                del self._under_way[key]
        if self._waiting and not self._scheduled:
            self._send()


def _waiters(batch: dict[K, list[asyncio.Future[T]]]) -> Iterator[asyncio.Future[T]]:
    return chain.from_iterable(batch.values())
