"""An `asyncio.Transport` in memory: records writes, and lets a test turn the knobs of flow control.

Nothing moves by itself: the test feeds the protocol, and drains the write buffer when it wants to.
As with a real transport, `connection_lost` comes after close, once, and only when the test says so
(`lose`) or the write buffer is empty.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class MemoryTransport(asyncio.Transport):
    """One side of a connection; `peername` and others come from `extra`.

    With `hold=False` (default) writes leave at once and are found in `written`; with `hold=True`
    they stay in the write buffer until `drain`, and the protocol is paused and resumed by the
    watermarks.
    """

    def __init__(
        self,
        protocol: asyncio.BaseProtocol | None = None,
        *,
        hold: bool = False,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            {"peername": ("192.0.2.1", 40000), "sockname": ("192.0.2.2", 80), **(extra or {})}
        )
        self.written = bytearray()
        self.writes: list[bytes] = []
        self.hold = hold
        self.reading = True
        self.eof_written = False
        self.aborted = False
        self.lost = False
        self.pauses = 0  # how often reading was paused
        self._protocol = protocol
        self._closing = False
        self._buffer = bytearray()
        self._low, self._high = 16384, 65536
        self._paused_protocol = False

    def __repr__(self) -> str:
        state = "lost" if self.lost else "closing" if self._closing else "open"
        reading = "reading" if self.reading else "paused"
        return (
            f"<MemoryTransport {state} {reading} out={len(self.written)} held={len(self._buffer)}>"
        )

    # what a protocol calls

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the connection to another protocol."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol in charge."""
        if self._protocol is None:
            raise AssertionError("no protocol set")
        return self._protocol

    def is_closing(self) -> bool:
        """Whether the transport is closing or closed."""
        return self._closing

    def is_reading(self) -> bool:
        """Whether data would be delivered."""
        return self.reading and not self._closing

    def pause_reading(self) -> None:
        """Stop delivering; twice is harmless, as in asyncio since 3.7."""
        if self.reading:
            self.pauses += 1
        self.reading = False

    def resume_reading(self) -> None:
        """Deliver again."""
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Record a write; writes after close are lost, after write_eof they are an error."""
        if self.eof_written:
            raise RuntimeError("write after write_eof")
        if self._closing or not data:
            return
        piece = bytes(data)
        self.writes.append(piece)
        if not self.hold:
            self.written += piece
            return
        self._buffer += piece
        if not self._paused_protocol and len(self._buffer) > self._high:
            self._paused_protocol = True
            self.get_protocol().pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """One write of the joined pieces."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """TCP can."""
        return True

    def write_eof(self) -> None:
        """Half-close."""
        self.eof_written = True

    def get_write_buffer_size(self) -> int:
        """Octets held."""
        return len(self._buffer)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """`(low, high)` in octets."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Defaults and checks as asyncio's."""
        if high is None:
            high = 65536 if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high}) must be >= low ({low}) must be >= 0")
        self._low, self._high = low, high

    def close(self) -> None:
        """Close once what is held has been drained; reading ends at once."""
        self._closing = True
        self.reading = False
        if not self._buffer:
            self.lose(None)

    def abort(self) -> None:
        """Drop what is held and close at once."""
        self.aborted = True
        self._closing = True
        self.reading = False
        self._buffer.clear()
        self.lose(None)

    # what a test calls

    def feed(self, data: bytes) -> None:
        """Deliver bytes to the protocol; an error while reading is paused."""
        if not self.is_reading():
            raise AssertionError(f"data fed to {self!r}")
        protocol = self.get_protocol()
        if isinstance(protocol, asyncio.BufferedProtocol):
            self._feed_buffered(protocol, data)
        elif isinstance(protocol, asyncio.Protocol):
            protocol.data_received(data)

    @staticmethod
    def _feed_buffered(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
        while data:
            room = memoryview(protocol.get_buffer(len(data)))
            count = min(len(room), len(data))
            room[:count] = data[:count]
            protocol.buffer_updated(count)
            data = data[count:]

    def feed_eof(self) -> None:
        """Deliver the other side's FIN; closes unless the protocol wants to stay half-open."""
        protocol = self.get_protocol()
        if (
            isinstance(protocol, asyncio.Protocol | asyncio.BufferedProtocol)
            and not protocol.eof_received()
        ):
            self.close()

    def drain(self, count: int | None = None) -> bytes:
        """Let this many held octets (or all) leave; resumes the protocol below the low mark."""
        piece = bytes(self._buffer[:count])
        del self._buffer[: len(piece)]
        self.written += piece
        if self._paused_protocol and len(self._buffer) <= self._low:
            self._paused_protocol = False
            self.get_protocol().resume_writing()
        if self._closing and not self._buffer:
            self.lose(None)
        return piece

    def take(self) -> bytes:
        """What has been written since the last time."""
        data = bytes(self.written)
        self.written.clear()
        return data

    def lose(self, error: Exception | None) -> None:
        """The connection is gone: the protocol hears of it in the loop's next turn, once."""
        if self.lost:
            return
        self.lost = self._closing = True
        self.reading = False
        self._buffer.clear()
        protocol = self._protocol
        if protocol is None:
            return
        try:
            asyncio.get_running_loop().call_soon(protocol.connection_lost, error)
        except RuntimeError:  # no loop runs in a test of a pure protocol
            protocol.connection_lost(error)
