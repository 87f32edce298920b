"""One connection of a simulated pod: commands out, replies in order, pushed messages aside.

Owns the bytes. Must not know what the commands mean.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, cast

import hiredis

if TYPE_CHECKING:
    from collections.abc import Callable


class LostError(Exception):
    """The connection is lost, or Redis refused a command; the message says what happened."""


class Connection(asyncio.Protocol):
    """`on_push` takes a message if it is one that no command asked for, and returns whether.

    `on_lost` is called once when the connection ends, from either side.
    """

    __slots__ = ("_on_lost", "_on_push", "_reader", "_transport", "_waiting")

    def __init__(self, on_push: Callable[[Any], bool], on_lost: Callable[[], None]) -> None:
        self._on_push = on_push
        self._on_lost = on_lost
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        # For each command sequence: how many replies are missing, those that came, its caller.
        self._waiting: deque[tuple[int, list[Any], asyncio.Future[list[Any]]]] = deque()

    def __repr__(self) -> str:
        return f"<Connection, {len(self._waiting)} commands in flight>"

    @property
    def alive(self) -> bool:
        """Whether it is open."""
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what is in flight."""
        self._transport = None
        for _, _, caller in self._waiting:
            if not caller.done():
                caller.set_exception(LostError(f"connection lost: {exc}"))
        self._waiting.clear()
        self._on_lost()

    def data_received(self, data: bytes) -> None:
        """Give each reply to the command that waits for it."""
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if self._on_push(reply):
                continue
            missing, replies, caller = self._waiting[0]
            replies.append(reply)
            if len(replies) == missing:
                self._waiting.popleft()
                if not caller.done():
                    caller.set_result(replies)

    async def call(self, commands: bytes, replies: int = 1) -> list[Any]:
        """Send one or more commands; returns their replies. Raises LostError."""
        if self._transport is None:
            raise LostError("not connected")
        caller: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append((replies, [], caller))
        self._transport.write(commands)
        found = await caller
        for reply in found:
            if isinstance(reply, hiredis.ReplyError):
                raise LostError(f"Redis answers: {reply}")
        return found

    def close(self) -> None:
        """Close it."""
        if self._transport is not None:
            self._transport.abort()


async def connect(
    port: int, on_push: Callable[[Any], bool], on_lost: Callable[[], None]
) -> Connection:
    """Connect to a local port. Raises LostError."""
    loop = asyncio.get_running_loop()
    try:
        _, connection = await loop.create_connection(
            lambda: Connection(on_push, on_lost), "127.0.0.1", port
        )
    except OSError as error:
        raise LostError(f"refused: {error}") from error
    return connection


def nothing_pushed(_: object) -> bool:
    """False: no message arrives unasked."""
    return False
