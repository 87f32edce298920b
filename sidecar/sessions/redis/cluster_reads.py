"""Look-ups in a Redis Cluster whose primaries report changes to what they were asked.

A slot that moves takes its keys along, and the new owner knows nothing of who has read them. Any
change of who owns a slot therefore ends the epoch. Knows keys, not sessions.

Source: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import AskError, ClusterDownError, MovedError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError

from sidecar.sessions.redis.faults import ERRORS
from sidecar.sessions.redis.tracking_connection import TrackingConnection
from sidecar.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis
    from redis.asyncio.cluster import RedisCluster

    from sidecar.sessions.redis.tracked_reads import ChangeListener

_Owners = frozenset[tuple[int, int, object]]  # first slot, last slot, the primary's id


class ClusterReads:
    """`TrackedReads` of a cluster. It owns `client`, which must speak RESP3, and closes it."""

    complete: Final = False

    def __init__(self, client: RedisCluster, listener: ChangeListener) -> None:
        self._client = client
        self._listener = listener
        self._tasks = Tasks()
        self._by_node: dict[str, TrackingConnection] = {}
        self._owners: _Owners = frozenset()
        self._checks = 0
        self.lost = False

    def __repr__(self) -> str:
        state = "lost, " if self.lost else ""
        return f"<ClusterReads {state}{len(self._by_node)} primaries>"

    @property
    def connections(self) -> Sequence[TrackingConnection]:
        """The connections, one for each primary."""
        return tuple(self._by_node.values())

    async def open(self) -> None:
        """Find the primaries and connect to all of them. They must agree on who owns what."""
        await self._client.nodes_manager.initialize()
        await self._close_pools()  # nothing else uses them
        self._by_node = {
            node.name: TrackingConnection(
                node.connection_class(**node.connection_kwargs),
                self._tasks,
                self._listener.on_changed,
                self._lose,
            )
            for node in self._client.get_primaries()
        }
        opening = (each.open() for each in self.connections)
        for outcome in await asyncio.gather(*opening, return_exceptions=True):
            if outcome is not None:
                raise outcome
        views = await asyncio.gather(*map(_owners_seen_by, self.connections))
        if len(set(views)) != 1:  # one of them does not know yet what it no longer owns
            raise RedisConnectionError("the primaries disagree about the owners of slots")
        self._owners = views[0]

    async def mget(self, keys: Sequence[bytes], redis: Redis) -> list[Any]:
        """The values of these keys."""
        if self.lost:
            untracked: list[Any] = await redis.mget(keys)
            return untracked
        answers = await self._ask(keys)
        again = [key for key in keys if not isinstance(answers[key], list)]
        for key in again:
            self._decide_on(key, answers[key])
        # The client follows redirections, to servers that know nothing of this connection's reads.
        reread = dict(zip(again, await redis.mget(again) if again else (), strict=True))
        values = []
        for key in keys:
            value = reread[key] if key in reread else answers[key][0]
            if value is None:  # if its slot moves, no report says that the key was written
                self._listener.on_unreported(key)
            values.append(value)
        return values

    async def check(self) -> None:
        """Check that every primary answers, and that one of them, in turns, sees the same owners.

        A node that has been demoted, or that the others have replaced, still answers PING.
        """
        await asyncio.gather(*(each.check() for each in self.connections))
        self._checks += 1
        asked = self.connections[self._checks % len(self._by_node)]
        if await _owners_seen_by(asked) != self._owners:
            self._lose()
            raise RedisConnectionError("slots have another owner")

    async def close(self) -> None:
        """Close every connection."""
        self._lose()
        await asyncio.gather(*(each.close() for each in self.connections))
        await self._tasks.close()

    async def _close_pools(self) -> None:
        """Close the client's own connections."""
        nodes = self._client.nodes_manager
        with suppress(*ERRORS):
            await nodes.aclose()
        with suppress(*ERRORS):
            await nodes.aclose("startup_nodes")

    async def _ask(self, keys: Sequence[bytes]) -> dict[bytes, Any]:
        """Each key's answer: a list of one value, or an exception."""
        by_connection: dict[TrackingConnection, list[bytes]] = {}
        for key in keys:
            node = self._client.nodes_manager.get_node_from_slot(self._client.keyslot(key))
            by_connection.setdefault(self._by_node[node.name], []).append(key)
        reads = [_read(connection, asked) for connection, asked in by_connection.items()]
        found = await asyncio.gather(*reads) if reads[1:] else [await read for read in reads]
        return {key: answer for answers in found for key, answer in answers.items()}

    def _decide_on(self, key: bytes, error: Exception) -> None:
        """What an error means. Raises it unless another server may answer."""
        if isinstance(error, AskError | TryAgainError):
            self._listener.on_unreported(key)
        elif isinstance(error, MovedError | ClusterDownError):
            self._lose()
        else:
            raise error

    def _lose(self) -> None:
        if not self.lost:
            self.lost = True
            self._listener.on_lost()


async def _owners_seen_by(connection: TrackingConnection) -> _Owners:
    """Who owns which slots, as this primary sees it. Takes the server 8 µs."""
    (answer,) = await connection.ask(("CLUSTER", "SLOTS"))
    if isinstance(answer, Exception):
        raise answer
    return frozenset((first, last, node[2]) for first, last, node, *_ in answer)


async def _read(connection: TrackingConnection, keys: Sequence[bytes]) -> dict[bytes, Any]:
    """Each key's answer. One command for each key: the keys of a node are in different slots."""
    try:
        answers = await connection.ask(*(("MGET", key) for key in keys))
    except ERRORS as error:
        return dict.fromkeys(keys, error)
    return dict(zip(keys, answers, strict=True))
