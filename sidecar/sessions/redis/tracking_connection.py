"""A connection on which Redis answers commands and, in between, reports changed keys (RESP3).

Answers arrive in the order of the commands, so many callers share the connection. A report arrives
after the answers that it makes outdated, on the same connection: if the connection is lost, so are
both. Knows keys, not sessions.

Source: https://redis.io/docs/latest/develop/reference/client-side-caching/
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from redis.asyncio.connection import DefaultParser
from redis.exceptions import AuthenticationError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from sidecar.sessions.redis.faults import ERRORS
from sidecar.sessions.redis.reauthentication import hold, reauthenticate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecar.tasks import Tasks


class TrackingConnection:
    """Sends commands on `connection`, which must speak RESP3, and reads everything that it brings.

    `connection` is the client library's, new and of no pool. `on_changed` gets the keys that
    changed, or None for all keys. `on_lost` is called once, when the connection ends and before
    any caller learns of it. `tasks` runs the task that reads.
    """

    def __init__(
        self,
        connection: Any,
        tasks: Tasks,
        on_changed: Callable[[Sequence[Any] | None], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._tasks = tasks
        self._on_changed = on_changed
        self._on_lost = on_lost
        self._asked: deque[_Question] = deque()  # oldest first
        self.lost = False

    def __repr__(self) -> str:
        state = "lost" if self.lost else f"{len(self._asked)} questions open"
        return f"<TrackingConnection {state}>"

    async def open(self) -> None:
        """Connect, and have the server track what is read from now on.

        Raises ResponseError if the server refuses RESP3 or tracking, and the library's other errors
        if it cannot be reached.
        """
        connection = self._connection
        connection.set_parser(_make_parser)
        hold(connection)  # between the questions of others, nobody would expect the answer to AUTH
        try:
            await connection.connect()
            await connection.send_command("CLIENT", "TRACKING", "ON", check_health=False)
            await connection.read_response()
        except BaseException:
            await self._disconnect()
            raise
        self._tasks.spawn(self._read(), "redis reports")

    async def ask(self, *commands: Sequence[Any]) -> list[Any]:
        """The answers to these commands, in order. An error that the server answers is a value.

        Raises the library's ConnectionError if the connection is or gets lost.
        """
        connection = self._connection
        if self.lost or not connection.is_connected:  # otherwise the library would reconnect
            self._lose()
            raise _lost()
        octets = connection.pack_commands(commands)
        question = _Question(len(commands))
        self._asked.append(question)
        try:
            await connection.send_packed_command(octets, check_health=False)
        except BaseException:
            # The library has closed the connection, because a command may have been cut.
            question.waiter.cancel()
            self._lose()
            raise
        return await question.waiter

    async def check(self) -> None:
        """Check that the server answers; before that, use a new credential if there is one.

        Raises the library's errors.
        """
        await reauthenticate(self._connection, self._ask_one)
        answer = await self._ask_one("PING")
        if isinstance(answer, Exception):
            raise answer

    async def close(self) -> None:
        """Disconnect. Callers that wait get a ConnectionError."""
        self._lose()
        await self._disconnect()

    async def _ask_one(self, *command: Any) -> object:
        (answer,) = await self.ask(command)
        return answer

    async def _disconnect(self) -> None:
        with suppress(*ERRORS):
            await self._connection.disconnect(nowait=True)

    async def _read(self) -> None:
        """Read answers and reports until the connection ends."""
        try:
            while True:
                await self._read_one()
        except ERRORS:
            pass  # `_lose` tells everyone concerned
        finally:
            self._lose()
            await self._disconnect()

    async def _read_one(self) -> None:
        try:
            answer = await self._connection.read_response(
                disable_decoding=True,
                timeout=math.inf,
                disconnect_on_error=False,  # as AUTH may be refused
                push_request=True,
            )
        except (ResponseError, AuthenticationError) as error:
            answer = error
        if isinstance(answer, _Report):
            if answer.changed:
                self._on_changed(answer.keys)
        elif answer is not None:  # which would be a report of an unknown kind: no command gets it
            if not self._asked:
                raise RedisConnectionError("an answer without a question")
            if self._asked[0].complete(answer):
                self._asked.popleft()

    def _lose(self) -> None:
        if self.lost:
            return
        self.lost = True
        self._on_lost()
        for question in self._asked:
            question.fail(_lost())
        self._asked.clear()


class _Question:
    """Commands that were sent together, and the answers so far."""

    __slots__ = ("_answers", "_expected", "waiter")

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._answers: list[Any] = []
        self.waiter: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"<_Question {len(self._answers)} of {self._expected} answered>"

    def complete(self, answer: object) -> bool:
        """Add an answer. True if it was the last."""
        self._answers.append(answer)
        if len(self._answers) < self._expected:
            return False
        if not self.waiter.done():  # the caller may have left
            self.waiter.set_result(self._answers)
        return True

    def fail(self, error: Exception) -> None:
        """There will be no further answer."""
        if not self.waiter.done():
            self.waiter.set_exception(error)


class _Report:
    """A push message of the server: that `keys` changed, or None for all; or something else."""

    __slots__ = ("changed", "keys")

    def __init__(self, message: Sequence[Any], *, changed: bool) -> None:
        self.changed = changed
        self.keys: Sequence[Any] | None = message[1] if changed else ()

    def __repr__(self) -> str:
        return f"<_Report {self.changed}>"


def _make_parser(socket_read_size: int) -> Any:
    """The library's parser, which returns push messages and does not handle them.

    It would log a message whose handler fails, including keys.
    """
    parser: Any = DefaultParser(socket_read_size=socket_read_size)
    parser.set_invalidation_push_handler(_keep_invalidation)
    parser.set_pubsub_push_handler(_keep_other)
    return parser


async def _keep_invalidation(message: Sequence[Any]) -> _Report:
    return _Report(message, changed=True)


async def _keep_other(message: Sequence[Any]) -> _Report:
    return _Report(message, changed=False)


def _lost() -> RedisConnectionError:
    return RedisConnectionError("the tracking connection is lost")
