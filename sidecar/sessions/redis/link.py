"""Runs operations on Redis: one total deadline, one retry, and a fault in one word.

Callers never see the client library's errors. A cancelled caller never leaves a connection in the
middle of an exchange. Knows nothing of sessions.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, TypeVar

from redis.asyncio.cluster import RedisCluster
from redis.exceptions import RedisClusterException

from sidecar.sessions.redis.faults import (
    ERRORS,
    RETRIED,
    RETRIED_IN_CLUSTER,
    Fault,
    RedisUnavailable,
    classify,
)
from sidecar.tasks import PatientTimeout, Tasks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager

    from redis.asyncio import Redis

T = TypeVar("T")

_WHOLE: Final = 0.85  # share of the deadline that Redis must have had to count as silent

_ERRORS: Final = (*ERRORS, RedisClusterException)

logger = logging.getLogger("sidecar.sessions")


class RedisLink:
    """Runs at most `slots` operations at a time, each within `timeout` seconds in total.

    A fault says `timeout` only if Redis had the whole time and this process was free to read an
    answer. If an operation waited for a slot, or this process was too busy, the fault is `busy`.
    """

    __slots__ = ("_client", "_free", "_nodes", "_operations", "_slots", "_tasks", "_timeout")

    def __init__(self, client: Redis, *, timeout: float, slots: int) -> None:
        # Fewer than the pool has, so that a probe always gets a connection.
        self._nodes = client.nodes_manager if isinstance(client, RedisCluster) else None
        if self._nodes is None:
            slots = min(slots, client.connection_pool.max_connections - 1)
        self._slots = max(1, slots)
        self._free = asyncio.Semaphore(self._slots)
        self._client = client
        self._timeout = timeout
        self._operations = 0
        self._tasks = Tasks()

    def __repr__(self) -> str:
        pool = None if self._nodes else self._client.connection_pool
        to = pool.connection_kwargs if pool else {}
        where = to.get("path") or f"{to.get('host', 'localhost')}:{to.get('port', 6379)}"
        where = getattr(pool, "service_name", where) if pool else "cluster"
        return f"<RedisLink {where}/{to.get('db', 0)}, {self._operations} operations>"

    @property
    def tasks(self) -> Tasks:
        """Background tasks that use this link. They end when it closes."""
        return self._tasks

    @property
    def slots(self) -> int:
        """How many operations can run at once."""
        return self._slots

    async def run(self, work: Callable[[Redis], Awaitable[T]], *, waited: float = 0.0) -> T:
        """The outcome of `work`, which may run twice and must be safe to repeat.

        `waited` seconds of the deadline have already passed. Raises RedisUnavailable. Call it only
        in tasks that no caller can cancel: see `detached`.
        """
        return await self._run(work, self._free, waited)

    async def probe(self, work: Callable[[Redis], Awaitable[T]]) -> T:
        """The outcome of `work`, which needs no slot: no other operation delays it.

        Call it for one probe at a time. Otherwise like `run`.
        """
        return await self._run(work, nullcontext(), 0.0)

    async def detached(self, work: Coroutine[Any, Any, T], name: str) -> T:
        """Run `work` in its own task: cancelling the caller does not cancel it."""
        outcome = await asyncio.shield(self._tasks.spawn(_outcome(work), name))
        if isinstance(outcome, RedisUnavailable):
            raise outcome
        return outcome

    async def close(self) -> None:
        """Cancel running operations and close every connection."""
        await self._tasks.close()
        try:
            await self._client.aclose()
        except _ERRORS as error:
            logger.debug("redis connection not closed cleanly", extra={"fault": classify(error)})

    async def _run(
        self,
        work: Callable[[Redis], Awaitable[T]],
        slot: AbstractAsyncContextManager[object],
        waited: float,
    ) -> T:
        self._operations += 1
        number = self._operations
        fault = Fault.BUSY
        try:
            async with PatientTimeout(self._timeout - waited) as deadline, slot:
                if deadline.left >= _WHOLE * self._timeout:
                    fault = Fault.TIMEOUT
                return await self._with_retry(work)
        except TimeoutError:
            # The library has closed the connection, so a late answer reaches no other caller.
            raise RedisUnavailable(fault, number) from None
        except _ERRORS as error:
            found = classify(error)
            # The library's own timer does not know whether it is late.
            raise RedisUnavailable(
                Fault.BUSY if found is Fault.TIMEOUT else found, number
            ) from None

    async def _with_retry(self, work: Callable[[Redis], Awaitable[T]]) -> T:
        try:
            return await work(self._client)
        except _ERRORS as error:
            fault = classify(error)
            if fault not in (RETRIED if self._nodes is None else RETRIED_IN_CLUSTER):
                raise
        if self._nodes is not None:
            await self._nodes.initialize()
        elif fault is Fault.READONLY:
            await self._disconnect_next()
        # The pool returns the connection released last. The fault has closed it, so it reconnects.
        return await work(self._client)

    async def _disconnect_next(self) -> None:
        """Close the pool's next connection, so that it reconnects: the master may have moved."""
        pool = self._client.connection_pool
        connection = await pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py's gap
        try:
            await connection.disconnect(nowait=True)
        finally:
            await pool.release(connection)


async def _outcome(work: Coroutine[Any, Any, T]) -> T | RedisUnavailable:
    """The outcome, or the fault as a value: if the caller is gone, it must not be logged."""
    try:
        return await work
    except RedisUnavailable as fault:
        return fault
