"""A proxy to Redis that closes connections when their credential ends, as cloud services do.

Redis itself lets a connection live on after its password was removed.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from types import TracebackType

# AUTH with a user and a password, as a command or as an option of HELLO, in RESP bulk strings.
_AUTH: Final = re.compile(rb"\$4\r\nAUTH\r\n\$\d+\r\n[^\r]*\r\n\$\d+\r\n([^\r]*)\r\n")
_CHUNK: Final = 65536


class ExpiringRedis:
    """Listens on `port` and forwards to another port on loopback. `closed` counts connections."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.closed = 0
        self._target = target
        self._server: asyncio.Server | None = None
        self._passwords: dict[asyncio.StreamWriter, bytes] = {}  # by the client's connection
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<ExpiringRedis {self.port}, {len(self._passwords)} connections>"

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
        for writer in list(self._passwords):
            writer.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def expire(self, password: str) -> None:
        """Close every connection that has not authenticated with another password since."""
        for writer, used in list(self._passwords.items()):
            if used == password.encode():
                self.closed += 1
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._passwords[writer] = b""
        back, forth = await asyncio.open_connection("127.0.0.1", self._target)
        answers = asyncio.create_task(_copy(back, writer))
        try:
            with suppress(ConnectionError):
                while data := await reader.read(_CHUNK):
                    for password in _AUTH.findall(data):
                        self._passwords[writer] = password
                    forth.write(data)
                    await forth.drain()
        finally:
            forth.close()
            answers.cancel()
            await asyncio.wait((answers,))
            writer.close()
            del self._passwords[writer]
            self._tasks.discard(task)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()
