"""Has Redis tell of changes to the sessions read here, for as long as it can be believed.

One connection hears the invalidations of all that a few others have read (CLIENT TRACKING with
REDIRECT, one key at a time: a sidecar pays for the sessions it serves, not for every login there
is). Any of them lost, or silent, ends the watch at once. Knows keys, no sessions.

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
from sidecar.sessions.redis.keyspace import DENIED, TOKEN
from sidecar.tasks import patient_timeout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from sidecar.sessions.coherence import TrackingEpoch
    from sidecar.sessions.memory.near import NearCache

    OnConnect = Callable[[Any], Awaitable[None]]
    Connect = Callable[[OnConnect, int], Redis]

CHANNEL: Final = "__redis__:invalidate"
FOLLOWS: Final = "Redis tells of changed sessions, known ones are not asked for"
UNHEARD: Final = "Redis does not tell of changed sessions, each request asks for its own"

_PERIOD: Final = 0.5  # seconds between two looks whether the link is alive
_SILENCE: Final = 0.5  # seconds until one that does not answer counts as dead
_LATE: Final = 0.25  # seconds more, for what could not be read or sent when it was time
_READERS: Final = 8
_SHORTEST: Final = 0.25
_LONGEST: Final = 5.0
_REFUSED: Final = 30.0  # seconds until a server that will not do it is asked again
_FAULTS: Final = (RedisError, OSError, RuntimeError)

logger = logging.getLogger("sidecar.sessions")


class Tracking:
    """Keeps `near` coherent while `run` runs. `read_through` is given the client to read with.

    `connect(on_connect, connections)` makes a client that has each new connection greeted by
    `on_connect`; `sleep` is in seconds.
    """

    def __init__(
        self,
        near: NearCache,
        connect: Connect,
        read_through: Callable[[Redis | None], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._near = near
        self._connect = connect
        self._read_through = read_through
        self._sleep = sleep
        self._wanted = asyncio.Event()
        self._fault = ""  # told last; a new one is told once

    def __repr__(self) -> str:
        return f"<Tracking {self._near!r}>"

    def resume(self) -> None:
        """Redis is in use: follow it."""
        self._wanted.set()

    def pause(self) -> None:
        """Redis is away: nothing it said before can be relied on."""
        self._wanted.clear()
        self._lose()

    async def run(self) -> None:
        """Follow Redis, again and again, until cancelled."""
        delay = _SHORTEST
        while True:
            await self._wanted.wait()
            flushes = self._near.flushes
            fault = await self._follow()
            if self._near.flushes != flushes:
                delay = _SHORTEST  # it did work
            if self._wanted.is_set() and fault != self._fault:
                self._fault = fault
                logger.warning(UNHEARD, extra={"fault": fault})
            await self._sleep(_REFUSED if fault in _REFUSALS else delay)
            delay = min(2 * delay, _LONGEST)

    async def _follow(self) -> str:
        """One epoch, from connecting to its end; why it ended."""
        connection = TrackingConnection(self._connect, self._lose)
        moment = _SILENCE
        try:
            await self._hear(connection)
        except asyncio.CancelledError:
            moment = 0.0  # the process ends, and has no look-up under way any more
            raise
        except TimeoutError:
            return Fault.TIMEOUT
        except _FAULTS as error:
            return classify(error)
        finally:
            self._lose()
            await connection.close(self._sleep, moment)
        return Fault.BROKEN

    async def _hear(self, connection: TrackingConnection) -> None:
        """Raises what the client library raises, or TimeoutError, when the link is lost."""
        async with patient_timeout(_SILENCE, _LATE):
            await connection.open()
        self._read_through(connection.reader)
        epoch = self._near.follow()
        self._fault = ""
        logger.info(FOLLOWS)
        clock = asyncio.get_running_loop().time
        pinged, due = 0.0, clock()
        while self._near.follows(epoch):
            if clock() >= due:
                # After a pause of this whole process an answer may have come unread.
                if pinged > connection.heard and not await self._read(connection, epoch, _LATE):
                    raise RedisConnectionError("no answer on the link")
                async with patient_timeout(_SILENCE, _LATE):
                    await connection.ping()
                pinged = clock()
                due = pinged + _PERIOD
            await self._read(connection, epoch, max(0.0, due - clock()))

    async def _read(
        self, connection: TrackingConnection, epoch: TrackingEpoch, seconds: float
    ) -> bool:
        """Take the next message, if there is one within `seconds`."""
        message = await connection.next(seconds)
        if message is None:
            return False
        connection.heard = asyncio.get_running_loop().time()
        self._heard(message, epoch)
        return True

    def _heard(self, message: dict[str, Any], epoch: TrackingEpoch) -> None:
        near = self._near
        near.heard_now()
        if message["type"] != "message" or not near.follows(epoch):
            return
        keys = message["data"]
        if not isinstance(keys, list):
            near.on_flushed()
            return
        for key in keys:
            if isinstance(key, bytes) and key.startswith(TOKEN):
                near.on_session_changed(key[len(TOKEN) :].decode("utf-8", "surrogatepass"))
            elif isinstance(key, bytes) and key.startswith(DENIED):
                near.on_revocation_changed(key[len(DENIED) :].decode("ascii", "replace"))

    def _lose(self) -> None:
        self._near.lose()
        self._read_through(None)


class TrackingConnection:
    """The connections of one epoch: `link` hears, `reader` reads. None of them may be replaced."""

    def __init__(self, connect: Connect, on_broken: Callable[[], None]) -> None:
        self._on_broken = on_broken
        self._id: int | None = None
        self._readers: set[Any] = set()
        self._link = connect(self._on_link, 1)
        self.reader = connect(self._on_reader, _READERS)
        self._pubsub = self._link.pubsub()
        self.heard = 0.0

    async def open(self) -> None:
        """Listen, and see that what is read will be told of."""
        await self._pubsub.subscribe(CHANNEL)
        await self.reader.ping()
        self.heard = asyncio.get_running_loop().time()

    async def next(self, seconds: float) -> dict[str, Any] | None:
        """The next message, or None if there is none for so long."""
        message: dict[str, Any] | None = await self._pubsub.get_message(timeout=seconds)
        return message

    async def ping(self) -> None:
        """Ask the link for a sign of life, and see that every reading connection still stands."""
        await self._pubsub.ping()
        # Taken at once, so that each idle connection gets one; the others show by their use.
        await asyncio.gather(*(self.reader.ping() for _ in self._readers))

    async def close(self, sleep: Callable[[float], Awaitable[None]], moment: float) -> None:
        """Close all; what is being read now gets `moment` seconds to end."""
        try:
            with suppress(*_FAULTS):
                await self._pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py's gap
        finally:
            try:
                await _close(self._link)
                if moment:
                    await sleep(moment)
            finally:
                await _close(self.reader)

    async def _on_link(self, connection: Any) -> None:
        if self._id is not None:  # invalidations may have been missed
            self._on_broken()
            raise RedisConnectionError("the link was lost")
        await connection.send_command("CLIENT", "ID")
        self._id = int(await connection.read_response())

    async def _on_reader(self, connection: Any) -> None:
        if connection in self._readers:  # of what it read before, nothing will be told
            self._on_broken()
        self._readers.add(connection)
        await connection.send_command("CLIENT", "TRACKING", "ON", "REDIRECT", str(self._id))
        answer = await connection.read_response()
        if isinstance(answer, ResponseError):
            raise answer


async def _close(client: Redis) -> None:
    with suppress(*_FAULTS):
        await client.aclose()


_REFUSALS: Final = frozenset({str(Fault.ERROR), str(Fault.PERMISSION)})
