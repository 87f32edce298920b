"""The memory transport behaves as asyncio's own in what protocols rely on."""

from __future__ import annotations

import asyncio

import pytest

from tests.peers.memory_transport import MemoryTransport


class Recorder(asyncio.Protocol):
    """Notes what the transport tells it."""

    def __init__(self, *, stays: bool = False) -> None:
        self.heard: list[str] = []
        self.stays = stays

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self.heard.append(data.decode())

    def eof_received(self) -> bool:
        """The other side is done."""
        self.heard.append("eof")
        return self.stays

    def pause_writing(self) -> None:
        """Too much is held."""
        self.heard.append("pause")

    def resume_writing(self) -> None:
        """There is room again."""
        self.heard.append("resume")

    def connection_lost(self, error: Exception | None) -> None:
        """It is over."""
        self.heard.append(f"lost {error}")


def test_writes_are_recorded_until_close() -> None:
    """Writes stand in order; after close they are dropped, after write_eof refused."""
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
    """The protocol is paused above the high mark and resumed at the low one, once each."""
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
    """Close lets the held octets leave first, abort does not; both end with one connection_lost."""
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
    """A paused transport delivers nothing; the test that tries is wrong."""
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
    """FIN closes the transport unless the protocol says that it stays half-open."""
    protocol = Recorder(stays=stays)
    transport = MemoryTransport(protocol)
    transport.feed_eof()
    await asyncio.sleep(0)
    assert protocol.heard == (["eof"] if stays else ["eof", "lost None"])
    assert transport.is_closing() is not stays
