"""An upstream that follows a script octet by octet and records exactly what it receives.

A script is the sequence of actions for one request: bytes to write, the steps below, or a coroutine
function that is given the connection. The request's body is read before the first action unless the
script starts with `EARLY`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, Self, TypeAlias

from tests.peers.byte_stream import ByteStream, StreamEndedError
from tests.peers.http_text import Fields, content_length, is_chunked, parse_fields
from tests.peers.patience import PATIENCE, until


class Step(Enum):
    """The actions of a script other than writing."""

    EARLY = auto()  # first: continue without reading the body
    READ_BODY = auto()  # after EARLY: read the body now
    CLOSE = auto()  # FIN; the connection is over
    HALF_CLOSE = auto()  # FIN, but continue reading
    RESET = auto()  # RST
    STALL = auto()  # wait for `release`
    YIELD = auto()  # let the other side run, so that writes arrive separately
    WATCH = auto()  # wait until the other side ends the connection


EARLY, READ_BODY, CLOSE, HALF_CLOSE = Step.EARLY, Step.READ_BODY, Step.CLOSE, Step.HALF_CLOSE
RESET, STALL, YIELD, WATCH = Step.RESET, Step.STALL, Step.YIELD, Step.WATCH

Action: TypeAlias = "bytes | Step | Callable[[Connection, Received], Awaitable[None]]"
Script: TypeAlias = Sequence[Action]
Scripts: TypeAlias = "Sequence[Script] | Callable[[Received], Script]"


def reply(body: bytes = b"ok", status: str = "200 OK", *lines: str) -> bytes:
    """Build a plain response with a length; `lines` are more header lines without CRLF."""
    head = "".join(f"{line}\r\n" for line in lines)
    return (
        f"HTTP/1.1 {status}\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body
    )


OK: Final = reply()


@dataclass(slots=True)
class Received:
    """One request as received; `raw_body` is framed, `body` is not."""

    head: bytes
    connection: int
    fields: Fields
    raw_body: bytes = b""
    body: bytes = b""
    trailers: bytes = b""

    @property
    def line(self) -> bytes:
        """The request line."""
        return self.head.partition(b"\r\n")[0]

    @property
    def method(self) -> bytes:
        """The method."""
        return self.line.split(b" ")[0]

    @property
    def target(self) -> bytes:
        """The request target, as sent."""
        return self.line.split(b" ")[1]


class Connection(ByteStream):
    """A connection from the sidecar."""

    index = 0
    ended_how: str | None = None

    async def request(self) -> Received:
        """Read the next request's head."""
        head = await self.until(b"\r\n\r\n")
        block = head[:-4].partition(b"\r\n")[2]
        return Received(head, self.index, Fields(parse_fields(block)))

    async def body(self, request: Received) -> None:
        """Read the body of this request."""
        if is_chunked(request.fields):
            request.raw_body, request.body, request.trailers = await self.chunked_body()
        elif length := content_length(request.fields):
            request.raw_body = request.body = await self.exactly(length)


@dataclass(slots=True)
class ScriptedUpstream:
    """A TCP server on loopback; each request uses the next of `scripts`, and the last one repeats.

    `requests` are those whose head was read, in order. `connections` are all connections ever made.
    `faults` are errors in scripts, which are the test's mistakes and are raised on exit.
    """

    scripts: Scripts = ((OK,),)
    keep: bool = True  # whether to record raw octets; off for huge bodies
    read_ahead: int = 65536  # octets that are read before back-pressure sets in
    receive_buffer: int | None = None  # size of the kernel's buffer before that, in octets
    requests: list[Received] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    faults: list[BaseException] = field(default_factory=list)
    port: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __repr__(self) -> str:
        seen = f"{len(self.requests)} requests on {len(self.connections)} connections"
        return f"<ScriptedUpstream on {self.port}, {seen}>"

    async def __aenter__(self) -> Self:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        sock.bind(("127.0.0.1", self.port))
        self._server = await asyncio.start_server(self._accept, sock=sock, limit=self.read_ahead)
        self.port = sock.getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        if self.faults:
            raise self.faults[0]

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in self.connections:
            connection.close()

    @property
    def url(self) -> str:
        """The URL of this server."""
        return f"http://127.0.0.1:{self.port}"

    async def wait(self, condition: Callable[[], bool], limit: float = PATIENCE) -> None:
        """Wait until this condition about the upstream is true."""
        await until(condition, limit)

    async def arrived(self, count: int = 1) -> Received:
        """Wait for this many requests and return the last of them."""
        await self.wait(lambda: len(self.requests) >= count)
        return self.requests[count - 1]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        connection.index = len(self.connections)
        connection.keep = self.keep
        connection.patience = None  # the client side times out; a connection may be idle for long
        self.connections.append(connection)
        task = asyncio.get_running_loop().create_task(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: Connection) -> None:
        try:
            while await self._exchange(connection):
                pass
        except StreamEndedError as end:
            connection.ended_how = end.how
        except ConnectionError:
            connection.ended_how = "reset"
        except Exception as fault:  # noqa: BLE001 (kept and raised by __aexit__)
            self.faults.append(fault)
            connection.reset()
        finally:
            if connection.ended_how is not None:
                connection.close()

    async def _exchange(self, connection: Connection) -> bool:
        """Handle one request by its script; return False if that ended the connection."""
        request = await connection.request()
        self.requests.append(request)
        script, unread = await self._begin(connection, request)
        for action in script:
            if action is READ_BODY:
                unread = False
                await connection.body(request)
            elif not await self._act(connection, request, action):
                return False
        if unread:
            await connection.body(request)
        return True

    async def _begin(self, connection: Connection, request: Received) -> tuple[Script, bool]:
        """Return the request's script and whether its body has still to be read."""
        if not callable(self.scripts):
            script = self.scripts[min(len(self.requests), len(self.scripts)) - 1]
            if script[:1] == [EARLY]:
                return script[1:], True
            await connection.body(request)
            return script, False
        await connection.body(request)
        return self.scripts(request), False

    async def _act(self, connection: Connection, request: Received, action: Action) -> bool:
        if isinstance(action, bytes):
            await connection.send(action)
        elif action is CLOSE:
            connection.close()
            return False
        elif action is RESET:
            connection.reset()
            return False
        elif action is HALF_CLOSE:
            connection.end()
        elif action is STALL:
            await self.release.wait()
        elif action is YIELD:
            await asyncio.sleep(0.002)
        elif action is WATCH:
            connection.ended_how = await connection.ended()
            return False
        elif callable(action):
            await action(connection, request)
        return True
