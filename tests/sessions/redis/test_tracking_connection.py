"""One connection for answers and reports, against a server that says what the test wants."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any, Self

import pytest
from redis.asyncio import Connection
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from sidecar.sessions.redis.tracking_connection import TrackingConnection
from sidecar.tasks import Tasks
from tests.peers.patience import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from types import TracebackType

HELLO = b"%1\r\n$5\r\nproto\r\n:3\r\n"
REPORT = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n"
FLUSHED = b">2\r\n$10\r\ninvalidate\r\n_\r\n"
UNKNOWN = b">2\r\n$6\r\nMOVING\r\n:1\r\n"
PUBSUB = b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n"


class Server:
    """Answers the handshake, then sends what the test says. `heard` is what it received."""

    def __init__(self, tracking: bytes = b"+OK\r\n") -> None:
        self.port = 0
        self.heard = b""
        self.closed = False
        self._tracking = tracking
        self._writer: asyncio.StreamWriter | None = None
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.hang_up()
        await until(lambda: self.closed or self._writer is None)

    def send(self, octets: bytes) -> None:
        """Send to the client."""
        assert self._writer is not None
        self._writer.write(octets)

    def hang_up(self) -> None:
        """Close the connection."""
        if self._writer is not None:
            self._writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        answers = [HELLO, self._tracking]
        while octets := await reader.read(65536):
            self.heard += octets
            if answers:
                writer.write(answers.pop(0))
        writer.close()
        self.closed = True


class Listener:
    """A connection, and what it reported."""

    def __init__(self, port: int) -> None:
        self.changed: list[Sequence[Any] | None] = []
        self.losses = 0
        self.tasks = Tasks()
        raw = Connection(host="127.0.0.1", port=port, protocol=3, driver_info=None)
        self.connection = TrackingConnection(raw, self.tasks, self.changed.append, self._on_lost)

    def _on_lost(self) -> None:
        self.losses += 1

    async def close(self) -> None:
        """End it."""
        await self.connection.close()
        await self.tasks.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server that accepts tracking."""
    async with Server() as made:
        yield made


@pytest.fixture
async def listener(server: Server) -> AsyncIterator[Listener]:
    """An open connection to it."""
    made = Listener(server.port)
    await made.connection.open()
    yield made
    await made.close()
    gc.collect()  # an exception that nobody retrieved would be logged now


async def test_the_handshake(server: Server, listener: Listener) -> None:
    """RESP3, then tracking of each key that is read; no redirection."""
    assert server.heard == (
        b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n*3\r\n$6\r\nCLIENT\r\n$8\r\nTRACKING\r\n$2\r\nON\r\n"
    )
    assert repr(listener.connection) == "<TrackingConnection 0 questions open>"


@pytest.mark.parametrize("cut", range(1, 60, 7))
async def test_answers_and_reports(server: Server, listener: Listener, cut: int) -> None:
    """Each caller gets the answers to its own commands, whatever comes between, in any pieces."""
    asking = [
        asyncio.create_task(listener.connection.ask(("MGET", "a"), ("MGET", "b"))),
        asyncio.create_task(listener.connection.ask(("PING",))),
    ]
    await until(lambda: server.heard.endswith(b"PING\r\n"))
    octets = b"".join(
        [
            *(REPORT, b"*1\r\n$1\r\n1\r\n", REPORT, PUBSUB, UNKNOWN),
            *(b"-MOVED 1 127.0.0.1:1\r\n", FLUSHED, b"+PONG\r\n", REPORT),
        ]
    )
    server.send(octets[:cut])
    await asyncio.sleep(0)
    server.send(octets[cut:])
    (first, second), pong = await asyncio.gather(*asking)
    assert first == [b"1"]
    assert isinstance(second, ResponseError)
    assert pong == [b"PONG"]
    await until(lambda: listener.changed == [[b"k"], [b"k"], None, [b"k"]])
    assert listener.losses == 0


async def test_a_refused_password(server: Server, listener: Listener) -> None:
    """It is an answer like any other, although the library raises it as a lost connection."""
    asking = asyncio.create_task(listener.connection.ask(("AUTH", "alice", "pw"), ("PING",)))
    await until(lambda: server.heard.endswith(b"PING\r\n"))
    server.send(b"-WRONGPASS invalid username-password pair\r\n" + REPORT + b"+PONG\r\n")
    refusal, pong = await asking
    assert isinstance(refusal, AuthenticationError)
    assert pong == b"PONG"
    assert listener.changed == [[b"k"]]
    assert listener.losses == 0


async def test_a_server_that_starts(server: Server, listener: Listener) -> None:
    """This error reply means a lost connection, which is then closed."""
    asking = asyncio.create_task(listener.connection.ask(("PING",)))
    await until(lambda: server.heard.endswith(b"PING\r\n"))
    server.send(b"-LOADING Redis is loading the dataset in memory\r\n")
    with pytest.raises(RedisConnectionError):
        await asking
    await until(lambda: server.closed)
    assert listener.losses == 1


async def test_a_report_without_a_question(server: Server, listener: Listener) -> None:
    """Reports are read even if no command was sent."""
    server.send(REPORT * 3000)
    await until(lambda: len(listener.changed) == 3000)


async def test_a_caller_that_leaves(server: Server, listener: Listener) -> None:
    """Its answer goes to nobody, and the next caller gets its own."""
    leaving = asyncio.create_task(listener.connection.ask(("MGET", "a")))
    await until(lambda: server.heard.endswith(b"a\r\n"))
    leaving.cancel()
    asking = asyncio.create_task(listener.connection.ask(("PING",)))
    await until(lambda: server.heard.endswith(b"PING\r\n"))
    server.send(b"*1\r\n_\r\n+PONG\r\n")
    assert await asking == [b"PONG"]
    assert leaving.cancelled()
    assert listener.losses == 0


@pytest.mark.parametrize(
    "last",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"*1\r\n$5\r\nab", id="part-of-an-answer"),
        pytest.param(b"?\r\n", id="not-the-protocol"),
        pytest.param(b"-LOADING Redis is loading the dataset in memory\r\n", id="loading"),
    ],
)
async def test_the_end(server: Server, listener: Listener, last: bytes) -> None:
    """Callers that wait get an error, after the listener was told. It is not reconnected."""
    connection = listener.connection
    asking = [asyncio.create_task(connection.ask(("MGET", "a"))) for _ in range(3)]
    await until(lambda: server.heard.count(b"MGET") == 3)
    server.send(last)
    server.hang_up()
    for each in asking:
        with pytest.raises(RedisConnectionError):
            await each
        assert listener.losses == 1
    heard = server.heard
    with pytest.raises(RedisConnectionError):
        await connection.ask(("PING",))
    assert server.heard == heard
    assert connection.lost
    assert listener.losses == 1
    assert repr(connection) == "<TrackingConnection lost>"


async def test_an_answer_without_a_question(server: Server, listener: Listener) -> None:
    """The order is broken, so the connection ends."""
    server.send(b"+PONG\r\n")
    await until(lambda: listener.connection.lost)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(b"-ERR unknown subcommand\r\n", ResponseError, id="unknown"),
        pytest.param(b"-NOPERM no permission\r\n", NoPermissionError, id="permission"),
    ],
)
async def test_a_refusal(answer: bytes, error: type[Exception]) -> None:
    """It is raised, and the connection is closed."""
    async with Server(answer) as server:
        listener = Listener(server.port)
        with pytest.raises(error):
            await listener.connection.open()
        await until(lambda: server.closed)
        assert listener.losses == 0
        await listener.close()
