"""Reading pauses while there is any reason to, and a reset connection looks reset to its peer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.proxy.flow import BACKLOG, NO_PEER, PEER_FULL, Flow, reset
from tests.peers.memory_transport import MemoryTransport

if TYPE_CHECKING:
    from collections.abc import Callable

REASONS = (PEER_FULL, NO_PEER, BACKLOG)


def test_reading_goes_on_with_the_last_reason_gone() -> None:
    """Reading resumes once the last reason is released; the transport is paused only once."""
    wire = MemoryTransport()
    flow = Flow(wire)
    assert not flow.held
    assert wire.reading
    flow.hold(NO_PEER)
    flow.hold(PEER_FULL)
    flow.hold(PEER_FULL)
    assert flow.held
    assert (wire.reading, wire.pauses) == (False, 1)
    flow.release(NO_PEER)
    assert not wire.reading
    flow.release(PEER_FULL)
    assert not flow.held
    assert wire.reading
    flow.release(BACKLOG)
    assert wire.reading


def test_several_reasons_at_once() -> None:
    """Reasons can be released together even if they were not held together."""
    wire = MemoryTransport()
    flow = Flow(wire)
    flow.hold(BACKLOG)
    flow.release(NO_PEER | PEER_FULL)
    assert not wire.reading
    flow.release(NO_PEER | BACKLOG)
    assert wire.reading
    assert repr(flow) == "<Flow held=0>"


class StrictTransport(MemoryTransport):
    """Like uvloop's transport: pausing twice or resuming when not paused is an error."""

    def pause_reading(self) -> None:
        """Pause; fails unless the transport is reading."""
        assert self.is_reading()
        super().pause_reading()

    def resume_reading(self) -> None:
        """Resume; fails unless the transport is paused and open."""
        assert not self.reading
        assert not self.is_closing()
        super().resume_reading()


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from(REASONS)), max_size=20), st.integers(0, 20)
)
def test_any_order(steps: list[tuple[bool, int]], closes_at: int) -> None:
    """The transport reads exactly while no reason is held; a closing transport is left alone."""
    wire = StrictTransport()
    flow = Flow(wire)
    reasons: set[int] = set()
    for at, (holds, why) in enumerate(steps):
        if at == closes_at:
            wire.close()
        if holds:
            flow.hold(why)
            reasons.add(why)
        else:
            flow.release(why)
            reasons.discard(why)
        assert bool(flow.held) is bool(reasons)
        if not wire.is_closing():
            assert wire.reading is not bool(reasons)


async def read_after(end: Callable[[asyncio.Transport], object]) -> bytes:
    """Return what a client reads from a connection that the server ends with `end`."""

    class Server(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            end(transport)

    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            return await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionResetError):
                await writer.wait_closed()


async def test_a_reset_is_an_error_for_the_peer() -> None:
    """Unlike a close, `reset` is an error for the peer, so a cut body does not look complete."""
    assert await read_after(lambda transport: transport.close()) == b""
    with pytest.raises(ConnectionResetError):
        await read_after(reset)


async def test_reset_without_a_tcp_socket() -> None:
    """A transport without a socket, with a Unix socket, or already closing is aborted."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for wire in (MemoryTransport(), MemoryTransport(extra={"socket": ours})):
            reset(wire)
            assert wire.aborted
    closing = MemoryTransport(extra={"socket": object()})
    closing.close()
    reset(closing)
    assert closing.aborted


def test_what_the_kernel_keeps_waits_too() -> None:
    """Unsent data includes what is in the kernel's buffer, until the peer has read it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wire = MemoryTransport(hold=True, extra={"socket": ours})
        flow = Flow(wire)
        assert flow.waiting() == 0
        wire.write(b"in our buffer")
        assert flow.waiting() == len(b"in our buffer")
        ours.send(b"in the kernel's")
        assert flow.waiting() > len(b"in our buffer")
        wire.drain()
        theirs.recv(100)
        assert flow.waiting() == 0
