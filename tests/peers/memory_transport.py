"""An `asyncio.Transport` in memory that records writes and puts the test in control.

Nothing happens by itself: the test feeds the protocol and drains the write buffer. As with a real
transport, `connection_lost` is called once, after a close, when the write buffer is empty or the
test calls `lose`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class MemoryTransport(asyncio.Transport):
    """One side of a connection; `extra` overrides `peername` and other extra information.

    With `hold=False` (default) writes are sent at once and recorded in `written`. With `hold=True`
    they stay in the write buffer until `drain`, and the watermarks pause and resume the protocol.
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
        self.pauses = 0  # number of times reading was paused
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

    # called by the protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the connection over to another protocol."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the current protocol."""
        if self._protocol is None:
            raise AssertionError("no protocol set")
        return self._protocol

    def is_closing(self) -> bool:
        """Return whether the transport is closing or closed."""
        return self._closing

    def is_reading(self) -> bool:
        """Return whether data would be delivered."""
        return self.reading and not self._closing

    def pause_reading(self) -> None:
        """Stop delivering data; pausing twice is harmless, as in asyncio since 3.7."""
        if self.reading:
            self.pauses += 1
        self.reading = False

    def resume_reading(self) -> None:
        """Deliver data again."""
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Record a write; it is dropped after close, and an error after write_eof."""
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
        """Write the joined pieces."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """Return True, as for TCP."""
        return True

    def write_eof(self) -> None:
        """Half-close."""
        self.eof_written = True

    def get_write_buffer_size(self) -> int:
        """Return the number of octets in the write buffer."""
        return len(self._buffer)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the watermarks `(low, high)` in octets."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the watermarks, with asyncio's defaults and checks."""
        if high is None:
            high = 65536 if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high}) must be >= low ({low}) must be >= 0")
        self._low, self._high = low, high

    def close(self) -> None:
        """Stop reading, and close once the write buffer is empty."""
        self._closing = True
        self.reading = False
        if not self._buffer:
            self.lose(None)

    def abort(self) -> None:
        """Drop the write buffer and close at once."""
        self.aborted = True
        self._closing = True
        self.reading = False
        self._buffer.clear()
        self.lose(None)

    # called by the test

    def feed(self, data: bytes) -> None:
        """Deliver bytes to the protocol; AssertionError while reading is paused."""
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
        """Deliver the peer's FIN; close unless the protocol wants to stay half-open."""
        protocol = self.get_protocol()
        if (
            isinstance(protocol, asyncio.Protocol | asyncio.BufferedProtocol)
            and not protocol.eof_received()
        ):
            self.close()

    def drain(self, count: int | None = None) -> bytes:
        """Send this many buffered octets (or all); resume the protocol at the low watermark."""
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
        """Return what has been written since the last call."""
        data = bytes(self.written)
        self.written.clear()
        return data

    def lose(self, error: Exception | None) -> None:
        """Lose the connection: the protocol is notified once, in the loop's next iteration."""
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
        except RuntimeError:  # a test of a pure protocol runs without a loop
            protocol.connection_lost(error)
