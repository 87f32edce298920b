"""Look-ups in one Redis server that reports changes to what they read.

If the connection is lost, look-ups use the store's own client, whose answers are not tracked; by
then, the epoch is over. Knows keys, not sessions.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

from sidecar.sessions.redis.faults import ERRORS
from sidecar.sessions.redis.tracking_connection import TrackingConnection
from sidecar.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis


class ChangeListener(Protocol):
    """Learns what happens to the keys that were read."""

    def on_changed(self, keys: Sequence[Any] | None) -> None:
        """These keys changed; None: all keys."""

    def on_unreported(self, key: bytes) -> None:
        """Changes to this key are not reported, although it is being read."""

    def on_lost(self) -> None:
        """Changes may have gone, or may go, unreported. May be called several times."""


class TrackedReads(Protocol):
    """Reads of keys whose changes Redis reports."""

    @property
    def complete(self) -> bool:
        """Whether changes to everything that is read are reported: no key is `on_unreported`."""

    @property
    def lost(self) -> bool:
        """Whether changes are no longer reported."""

    @property
    def connections(self) -> Sequence[TrackingConnection]:
        """The connections in use, one for each server."""

    async def open(self) -> None:
        """Connect. Raises the client library's errors, ResponseError if the server refuses."""

    async def mget(self, keys: Sequence[bytes], redis: Redis) -> list[Any]:
        """The values of these keys. Asks `redis` for those that cannot be tracked.

        Raises the client library's errors.
        """

    async def check(self) -> None:
        """Check that changes are still reported. Raises the client library's errors if not."""

    async def close(self) -> None:
        """Close every connection. Look-ups under way fail, and are safe to repeat."""


class ServerReads:
    """`TrackedReads` of one server. It owns `client`, which must speak RESP3, and closes it."""

    complete: Final = True

    def __init__(self, client: Redis, listener: ChangeListener) -> None:
        self._client = client
        self._tasks = Tasks()
        self._connection = TrackingConnection(
            client.connection_pool.make_connection(),  # type: ignore[no-untyped-call]  # redis-py's gap
            self._tasks,
            listener.on_changed,
            listener.on_lost,
        )

    def __repr__(self) -> str:
        return f"<ServerReads {self._connection!r}>"

    @property
    def lost(self) -> bool:
        """Whether the connection is lost."""
        return self._connection.lost

    @property
    def connections(self) -> Sequence[TrackingConnection]:
        """The one connection, in a tuple."""
        return (self._connection,)

    async def open(self) -> None:
        """Connect, and have the server track what is read."""
        await self._connection.open()

    async def mget(self, keys: Sequence[bytes], redis: Redis) -> list[Any]:
        """The values of these keys."""
        if self._connection.lost:
            untracked: list[Any] = await redis.mget(keys)
            return untracked
        (answer,) = await self._connection.ask(("MGET", *keys))
        if isinstance(answer, Exception):
            raise answer
        values: list[Any] = answer
        return values

    async def check(self) -> None:
        """Ping the server."""
        await self._connection.check()

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()
        await self._tasks.close()
        with suppress(*ERRORS):
            await self._client.aclose()
