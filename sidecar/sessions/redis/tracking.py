"""Keeps the near cache coherent by Redis' invalidation messages (CLIENT TRACKING with REDIRECT).

One link receives the invalidations of every key that a few reading connections read. Tracking is
per key, so a sidecar pays for the sessions it serves, not for every login in the cluster. If any of
these connections is lost or silent, the epoch ends at once. Knows keys, not sessions.

Source: https://redis.io/docs/latest/develop/reference/client-side-caching/
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from sidecar.sessions.redis.faults import Fault, classify
from sidecar.tasks import PatientTimeout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from sidecar.sessions.coherence import TrackingEpoch
    from sidecar.sessions.memory.near import NearCache
    from sidecar.sessions.store import ReadableNames

    OnConnect = Callable[[Any], Awaitable[None]]
    Connect = Callable[[OnConnect, int], Redis]

CHANNEL: Final = "__redis__:invalidate"
TRACKING: Final = "Redis reports changed sessions, the near cache is in use"
NOT_TRACKING: Final = "Redis does not report changed sessions, every request asks Redis"

_PING_INTERVAL: Final = 0.5  # seconds between two pings of every connection
_SILENCE: Final = 0.5  # seconds until a connection that does not answer counts as lost
_LATE: Final = 0.25  # seconds of tolerance if this process could not read or send in time
_READERS: Final = 8
_SHORTEST_DELAY: Final = 0.25  # seconds between two attempts; doubles
_LONGEST_DELAY: Final = 5.0
_REFUSED_DELAY: Final = 30.0  # seconds between attempts if the server refuses tracking
_FAULTS: Final = (RedisError, OSError, RuntimeError)

logger = logging.getLogger("sidecar.sessions")


class Tracking:
    """Keeps `near` coherent while `run` runs.

    `connect(on_connect, connections)` makes a client that calls `on_connect` on each new
    connection. `read_through` receives the client that look-ups must use, or None for any. `names`
    reads the names of changed keys. `sleep` is in seconds.
    """

    def __init__(
        self,
        near: NearCache,
        connect: Connect,
        read_through: Callable[[Redis | None], None],
        names: ReadableNames,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._near = near
        self._connect = connect
        self._read_through = read_through
        self._names = names
        self._sleep = sleep
        self._wanted = asyncio.Event()
        self._fault = ""  # the last one logged: each is logged once

    def __repr__(self) -> str:
        return f"<Tracking {self._near!r}>"

    def resume(self) -> None:
        """Redis is in use: track it."""
        self._wanted.set()

    def pause(self) -> None:
        """Redis is not in use: nothing that it reported before can be relied on."""
        self._wanted.clear()
        self._end_epoch()

    async def run(self) -> None:
        """Track Redis, one epoch after another, until cancelled."""
        delay = _SHORTEST_DELAY
        while True:
            await self._wanted.wait()
            flushes = self._near.flushes
            fault = await self._run_epoch()
            if self._near.flushes != flushes:
                delay = _SHORTEST_DELAY  # tracking had worked
            if self._wanted.is_set() and fault != self._fault:
                self._fault = fault
                logger.warning(NOT_TRACKING, extra={"fault": fault})
            await self._sleep(_REFUSED_DELAY if fault in _REFUSALS else delay)
            delay = min(2 * delay, _LONGEST_DELAY)

    async def _run_epoch(self) -> str:
        """Run one epoch, from connecting to its end. Returns the fault that ended it."""
        connection = TrackingConnection(self._connect, self._end_epoch)
        grace = _SILENCE
        try:
            await self._listen(connection)
        except asyncio.CancelledError:
            grace = 0.0  # the process ends, so no look-up is running
            raise
        except TimeoutError:
            return Fault.TIMEOUT
        except _FAULTS as error:
            return classify(error)
        finally:
            self._end_epoch()
            await connection.close(self._sleep, grace)
        return Fault.BROKEN

    async def _listen(self, connection: TrackingConnection) -> None:
        """Process messages until the epoch ends.

        Raises the client library's errors, or TimeoutError, when a connection is lost.
        """
        async with PatientTimeout(_SILENCE + _LATE):
            await connection.open()
        self._read_through(connection.reader)
        epoch = self._near.begin_epoch()
        self._fault = ""
        logger.info(TRACKING)
        clock = asyncio.get_running_loop().time
        pinged, due = 0.0, clock()
        while self._near.is_current(epoch):
            if clock() >= due:
                # If this whole process was paused, the answer may have arrived but not been read.
                if pinged > connection.alive_at and not await self._read(connection, epoch, _LATE):
                    raise RedisConnectionError("no answer on the link")
                async with PatientTimeout(_SILENCE + _LATE):
                    await connection.ping()
                pinged = clock()
                due = pinged + _PING_INTERVAL
            await self._read(connection, epoch, max(0.0, due - clock()))

    async def _read(
        self, connection: TrackingConnection, epoch: TrackingEpoch, seconds: float
    ) -> bool:
        """Process the next message. False if there is none within `seconds`."""
        message = await connection.next(seconds)
        if message is None:
            return False
        connection.alive_at = asyncio.get_running_loop().time()
        self._on_message(message, epoch)
        return True

    def _on_message(self, message: dict[str, Any], epoch: TrackingEpoch) -> None:
        near = self._near
        near.mark_alive()
        if message["type"] != "message" or not near.is_current(epoch):
            return
        keys = message["data"]
        if not isinstance(keys, list):
            near.on_flushed()
            return
        for key in keys:
            if not isinstance(key, bytes):
                continue
            if (token_id := self._names.token_in(key)) is not None:
                near.on_session_changed(token_id)
            elif (name := self._names.revocation_in(key)) is not None:
                near.on_revocation_changed(name)

    def _end_epoch(self) -> None:
        self._near.end_epoch()
        self._read_through(None)


class TrackingConnection:
    """The connections of one epoch: a link for invalidations, and the client `reader` for look-ups.

    A connection that is replaced may have missed invalidations, so the epoch then ends:
    `on_broken` is called. `alive_at` is the loop time of the link's last message.
    """

    def __init__(self, connect: Connect, on_broken: Callable[[], None]) -> None:
        self._on_broken = on_broken
        self._id: int | None = None
        self._readers: set[Any] = set()
        self._link = connect(self._on_link, 1)
        self.reader = connect(self._on_reader, _READERS)
        self._pubsub = self._link.pubsub()
        self.alive_at = 0.0

    async def open(self) -> None:
        """Subscribe, and check that the server accepts tracking."""
        await self._pubsub.subscribe(CHANNEL)
        await self.reader.ping()
        self.alive_at = asyncio.get_running_loop().time()

    async def next(self, seconds: float) -> dict[str, Any] | None:
        """The next message, or None if there is none within `seconds`."""
        message: dict[str, Any] | None = await self._pubsub.get_message(timeout=seconds)
        return message

    async def ping(self) -> None:
        """Ping the link, and check that every idle reading connection still works."""
        await self._pubsub.ping()
        # Concurrent pings, so that each idle connection gets one. Use shows whether busy ones work.
        await asyncio.gather(*(self.reader.ping() for _ in self._readers))

    async def close(self, sleep: Callable[[float], Awaitable[None]], grace: float) -> None:
        """Close all connections. Running look-ups get `grace` seconds to finish."""
        try:
            with suppress(*_FAULTS):
                await self._pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py's gap
        finally:
            try:
                await _close(self._link)
                if grace:
                    await sleep(grace)
            finally:
                await _close(self.reader)

    async def _on_link(self, connection: Any) -> None:
        if self._id is not None:  # invalidations may have been missed
            self._on_broken()
            raise RedisConnectionError("the link was lost")
        await connection.send_command("CLIENT", "ID")
        self._id = int(await connection.read_response())

    async def _on_reader(self, connection: Any) -> None:
        if connection in self._readers:  # changes to what it read before are no longer reported
            self._on_broken()
            return  # the epoch is over, so what it reads for running look-ups need not be tracked
        self._readers.add(connection)
        await connection.send_command("CLIENT", "TRACKING", "ON", "REDIRECT", str(self._id))
        try:
            await connection.read_response()
        except ResponseError:
            if not self.alive_at:  # the server refuses tracking
                raise
            self._on_broken()  # the link is gone; running look-ups get their answers untracked


async def _close(client: Redis) -> None:
    with suppress(*_FAULTS):
        await client.aclose()


_REFUSALS: Final = frozenset({str(Fault.ERROR), str(Fault.PERMISSION)})
