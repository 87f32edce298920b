"""A TCP proxy that simulates network faults: delay, stall, drip, loss, cut and reset.

Every fault is an attribute or a method and can be changed while connections are open.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from types import TracebackType

_CHUNK: Final = 65536
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER with zero timeout: close with RST


class FaultProxy:
    """Forwards bytes between its clients and a port on loopback.

    `delay` and `drip` are in seconds: before each piece of an answer, and between its octets.
    `lose` discards what either side sends. `cut_after` resets a connection once this many octets of
    answers have passed. `target` is the port of new connections. `accepted` counts connections,
    `asked` the octets received from clients.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.target = target
        self.delay = 0.0
        self.drip = 0.0
        self.lose = False
        self.cut_after: int | None = None
        self.accepted = 0
        self.asked = 0
        self._stalled: set[int] | None = set()  # numbers of connections; None means all of them
        self._flowing = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<FaultProxy {self.port} → {self.target}, {len(self._open) // 2} open>"

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.refuse()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def listen(self) -> None:
        """Accept connections, on the same port as before."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Accept no more connections and reset the open ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.reset()
        await asyncio.sleep(0)

    def stall(self, *numbers: int) -> None:
        """Hold back answers on the connections with these numbers (from 1), or on all of them."""
        self._stalled = set(numbers) or None
        self._flowing.clear()

    def flow(self) -> None:
        """Let answers pass again, including those held back."""
        self._stalled = set()
        self._flowing.set()

    def reset(self) -> None:
        """Reset every open connection on both sides."""
        for writer in tuple(self._open):
            _reset(writer)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        number = self.accepted
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)
            self._open.add(up_writer)
            try:
                await asyncio.gather(
                    self._ask(reader, up_writer), self._answer(up_reader, writer, number)
                )
            finally:
                self._open.discard(up_writer)
                _reset(up_writer)
        except (OSError, RuntimeError, asyncio.CancelledError):
            pass  # one side is gone (uvloop raises RuntimeError then), or the test has ended
        finally:
            self._open.discard(writer)
            self._tasks.discard(task)
            _reset(writer)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(_CHUNK):
            self.asked += len(piece)
            if not self.lose:
                writer.write(piece)
                await writer.drain()
        if not writer.transport.is_closing():
            writer.write_eof()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        passed = 0
        while piece := await reader.read(_CHUNK):
            if self.delay:
                await asyncio.sleep(self.delay)
            if self._stalled is None or number in self._stalled:
                await self._flowing.wait()
            if self.lose:
                continue
            if self.cut_after is not None and passed + len(piece) > self.cut_after:
                writer.write(piece[: max(0, self.cut_after - passed)])
                await writer.drain()
                raise ConnectionResetError
            passed += len(piece)
            if self.drip:
                for octet in piece:
                    writer.write(bytes([octet]))
                    await asyncio.sleep(self.drip)
            else:
                writer.write(piece)
            await writer.drain()
        raise ConnectionResetError  # the target ended the connection: reset it


def _reset(writer: asyncio.StreamWriter) -> None:
    if not writer.transport.is_closing():
        with suppress(RuntimeError):  # uvloop raises it if already closed
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
