"""A TCP proxy in front of Redis that refuses some commands, as servers without them do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

import hiredis

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_CHUNK = 65536


class RefusingProxy:
    """Forwards commands to a port on loopback, and answers those that `refuse` names by an error.

    `refuse` gets a command's words in upper case and returns the error, or an empty text. An error
    overtakes answers that are still on their way, so a client must not send ahead what is refused.
    """

    def __init__(self, target: int, refuse: Callable[[list[str]], str]) -> None:
        self.port = 0
        self.refused = 0
        self._target = target
        self._refuse = refuse
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<RefusingProxy {self.port} → {self._target}, {self.refused} refused>"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
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
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
        answering = asyncio.create_task(_copy(up_reader, writer))
        try:
            commands = hiredis.Reader()
            while octets := await reader.read(_CHUNK):
                commands.feed(octets)
                while (command := commands.gets()) is not False:
                    self._handle(command, up_writer, writer)
        except (OSError, asyncio.CancelledError):
            pass  # the client is gone, or the test has ended
        finally:
            answering.cancel()
            up_writer.close()
            writer.close()
            self._tasks.discard(task)

    def _handle(
        self, command: list[bytes], server: asyncio.StreamWriter, client: asyncio.StreamWriter
    ) -> None:
        error = self._refuse([word.decode("ascii", "replace").upper() for word in command])
        if error:
            self.refused += 1
            client.write(f"-{error}\r\n".encode())
        else:
            packed = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in command)
            server.write(b"*%d\r\n%b" % (len(command), packed))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while octets := await reader.read(_CHUNK):
        writer.write(octets)
    writer.close()
