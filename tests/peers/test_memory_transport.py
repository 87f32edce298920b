"""The memory transport behaves like asyncio's own in everything that protocols rely on."""

from __future__ import annotations

import asyncio

import pytest

from tests.peers.memory_transport import MemoryTransport


class Recorder(asyncio.Protocol):
    """Records the calls that it gets from the transport."""

    def __init__(self, *, stays: bool = False) -> None:
        self.heard: list[str] = []
        self.stays = stays

    def data_received(self, data: bytes) -> None:
        """Record the data."""
        self.heard.append(data.decode())

    def eof_received(self) -> bool:
        """Record the end of the peer's data; return whether to stay half-open."""
        self.heard.append("eof")
        return self.stays

    def pause_writing(self) -> None:
        """Record that the buffer is full."""
        self.heard.append("pause")

    def resume_writing(self) -> None:
        """Record that there is room again."""
        self.heard.append("resume")

    def connection_lost(self, error: Exception | None) -> None:
        """Record the end of the connection."""
        self.heard.append(f"lost {error}")


def test_writes_are_recorded_until_close() -> None:
    """Writes are recorded in order, dropped after close, and refused after write_eof."""
    transport = MemoryTransport(Recorder())
    transport.writelines([b"a", b"b"])
    transport.write(b"c")
    assert (bytes(transport.written), transport.writes) == (b"abc", [b"ab", b"c"])
    transport.write_eof()
    with pytest.raises(RuntimeError, match="write_eof"):
        transport.write(b"d")
    other = MemoryTransport(Recorder())
    other.close()
    other.write(b"x")
    assert other.take() == b""


def test_watermarks_pause_and_resume_once() -> None:
    """The protocol is paused once above the high mark and resumed once at the low one."""
    protocol = Recorder()
    transport = MemoryTransport(protocol, hold=True)
    transport.set_write_buffer_limits(high=10, low=4)
    transport.write(b"x" * 11)
    transport.write(b"y" * 5)
    assert protocol.heard == ["pause"]
    assert transport.drain(11) == b"x" * 11
    assert protocol.heard == ["pause"]
    transport.drain()
    assert protocol.heard == ["pause", "resume"]
    assert transport.get_write_buffer_size() == 0


async def test_close_waits_for_what_is_held() -> None:
    """Close sends buffered data first, abort drops it; both call connection_lost once."""
    for aborts in (False, True):
        protocol = Recorder()
        transport = MemoryTransport(protocol, hold=True)
        transport.write(b"data")
        if aborts:
            transport.abort()
        else:
            transport.close()
            await asyncio.sleep(0)
            assert protocol.heard == []
            transport.drain()
        transport.close()
        await asyncio.sleep(0)
        assert protocol.heard == ["lost None"]
        assert transport.take() == (b"" if aborts else b"data")


def test_feeding_respects_the_pause() -> None:
    """Feeding a paused transport is an error in the test."""
    protocol = Recorder()
    transport = MemoryTransport(protocol)
    transport.feed(b"a")
    transport.pause_reading()
    with pytest.raises(AssertionError, match="paused"):
        transport.feed(b"b")
    transport.resume_reading()
    transport.feed(b"c")
    assert (protocol.heard, transport.pauses) == (["a", "c"], 1)


@pytest.mark.parametrize("stays", [True, False], ids=["half-open", "closes"])
async def test_end_of_the_other_side(*, stays: bool) -> None:
    """A FIN closes the transport unless the protocol stays half-open."""
    protocol = Recorder(stays=stays)
    transport = MemoryTransport(protocol)
    transport.feed_eof()
    await asyncio.sleep(0)
    assert protocol.heard == (["eof"] if stays else ["eof", "lost None"])
    assert transport.is_closing() is not stays
