"""Keeps the near cache coherent by Redis' reports of changed keys (CLIENT TRACKING over RESP3).

Look-ups use connections on which the server reports changes to what they read. Tracking is per key,
so a sidecar pays for the sessions it serves, not for every login in the cluster. If such a
connection is lost or silent, the epoch ends at once. Knows keys, not sessions.

Source: https://redis.io/docs/latest/develop/reference/client-side-caching/
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException

from sidecar.sessions.redis.cluster_reads import ClusterReads
from sidecar.sessions.redis.faults import ERRORS, Fault, classify
from sidecar.sessions.redis.tracked_reads import ServerReads
from sidecar.tasks import PatientTimeout, wait_any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from redis.asyncio import Redis

    from sidecar.sessions.memory.near import NearCache
    from sidecar.sessions.redis.tracked_reads import TrackedReads
    from sidecar.sessions.redis.tracking_connection import TrackingConnection
    from sidecar.sessions.store import ReadableNames

    Connect = Callable[[], Redis]

TRACKING: Final = "Redis reports changed sessions, the near cache is in use"
NOT_TRACKING: Final = "Redis does not report changed sessions, every request asks Redis"
UNSUPPORTED: Final = "unsupported"  # the server refuses HELLO 3 or CLIENT TRACKING

_CHECK_INTERVAL: Final = 0.5  # seconds between two checks of every connection
_SILENCE: Final = 0.75  # seconds until a connection that does not answer counts as lost
_SHORTEST_DELAY: Final = 0.25  # seconds between two attempts; doubles
_LONGEST_DELAY: Final = 5.0
_REFUSED_DELAY: Final = 30.0  # seconds between attempts if the server refuses tracking
_REFUSALS: Final = frozenset({UNSUPPORTED, str(Fault.PERMISSION)})
_ERRORS: Final = (*ERRORS, RedisClusterException)

logger = logging.getLogger("sidecar.sessions")


class Tracking:
    """Keeps `near` coherent while `run` runs. It is the `ChangeListener` of its look-ups.

    `connect` makes a client of the same Redis whose connections speak RESP3. `read_through` gets
    what look-ups must use, or None for the store's own client. `names` reads the names of changed
    keys. `sleep` is in seconds; `jitter` returns numbers in [0, 1).
    """

    def __init__(
        self,
        near: NearCache,
        connect: Connect,
        read_through: Callable[[TrackedReads | None], None],
        names: ReadableNames,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._near = near
        self._connect = connect
        self._read_through = read_through
        self._names = names
        self._sleep = sleep
        self._jitter = jitter
        self._wanted = asyncio.Event()
        self._ended = asyncio.Event()
        self._reads: TrackedReads | None = None

    def __repr__(self) -> str:
        return f"<Tracking {self._near!r}>"

    @property
    def connections(self) -> Sequence[TrackingConnection]:
        """The connections in use, one for each server."""
        return () if self._reads is None else self._reads.connections

    def resume(self) -> None:
        """Redis is in use: track it."""
        self._wanted.set()

    def pause(self) -> None:
        """Redis is not in use: nothing that it reported before can be relied on."""
        self._wanted.clear()
        self.on_lost()

    def on_changed(self, keys: Sequence[Any] | None) -> None:
        """These keys changed; None: all keys."""
        self._near.mark_alive()
        if keys is None:
            self._near.on_flushed()
            return
        for key in keys:
            if not isinstance(key, bytes):
                continue
            if (token_id := self._names.token_in(key)) is not None:
                self._near.on_session_changed(token_id)
            elif (name := self._names.revocation_in(key)) is not None:
                self._near.on_revocation_changed(name)

    def on_unreported(self, key: bytes) -> None:
        """Changes to this key are not reported, although it is being read."""
        name = self._names.token_in(key)
        name = self._names.revocation_in(key) if name is None else name
        if name is not None:
            self._near.on_unreported(name)

    def on_lost(self) -> None:
        """Changes may have gone, or may go, unreported."""
        self._near.end_epoch()
        self._read_through(None)
        self._ended.set()

    async def run(self) -> None:
        """Track Redis, one epoch after another, until cancelled."""
        delay, clock = _SHORTEST_DELAY, asyncio.get_running_loop().time
        while True:
            await self._wanted.wait()
            began = clock()
            fault = await self._run_epoch()
            if clock() > began + _LONGEST_DELAY:
                delay = _SHORTEST_DELAY  # otherwise slots may be moving, one after another
            if self._wanted.is_set() and fault != self._near.fault:
                self._near.fault = fault
                logger.warning(NOT_TRACKING, extra={"fault": fault})
            # Between half and all of the delay: a failover ends the epochs of all pods at once.
            spread = delay * (1 + self._jitter()) / 2
            await self._sleep(_REFUSED_DELAY if fault in _REFUSALS else spread)
            delay = min(2 * delay, _LONGEST_DELAY)

    async def _run_epoch(self) -> str:
        """Run one epoch, from connecting to its end. Returns the fault that ended it."""
        client = self._connect()
        if isinstance(client, RedisCluster):
            self._reads = reads = ClusterReads(client, self)
        else:
            self._reads = reads = ServerReads(client, self)
        try:
            await self._open(reads)
            await self._watch(reads)
        except TimeoutError:
            return Fault.TIMEOUT
        except _ERRORS as error:
            fault = classify(error)
            return UNSUPPORTED if fault is Fault.ERROR else fault
        finally:
            self.on_lost()
            closing = asyncio.create_task(reads.close())
            try:
                await asyncio.shield(closing)
            finally:
                await closing  # completely, even if this task is cancelled meanwhile
                self._reads = None
        return Fault.BROKEN

    async def _open(self, reads: TrackedReads) -> None:
        """Begin an epoch. Raises the client library's errors, or TimeoutError."""
        async with PatientTimeout(_SILENCE):
            await reads.open()
        if reads.lost:
            raise RedisConnectionError("the connection was lost at once")
        self._ended.clear()
        self._near.fault = ""
        self._read_through(reads)
        self._near.begin_epoch(complete=reads.complete)
        logger.info(TRACKING)

    async def _watch(self, reads: TrackedReads) -> None:
        """Check the connections until the epoch ends. Raises like `_open`."""
        while True:
            await wait_any(_CHECK_INTERVAL, self._ended)
            if self._ended.is_set():
                return
            async with PatientTimeout(_SILENCE):
                await reads.check()
            self._near.mark_alive()
