"""Finished exchanges are freed at once by reference counting, without the garbage collector.

The collector rarely examines old objects (`sidecar.app.gc_tuning`), so anything that only it can
free accumulates.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from enum import Enum, auto
from typing import TYPE_CHECKING

import pytest

from tests.peers.patience import until
from tests.peers.raw_client import build
from tests.peers.scripted_upstream import CLOSE, RESET, STALL, WATCH
from tests.peers.stack import Stack, stack
from tests.proxy.handshake import ASK, SWITCH

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from tests.peers.scripted_upstream import Script, ScriptedUpstream

BEGUN = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
KINDS = {
    *("Downstream", "Exchange", "Flow", "Frames", "RequestHead", "RequestParser"),
    *("ResponseHead", "StagedBody", "TunnelEnd", "Upload", "UpstreamConnection", "UpstreamLeg"),
}
PLAIN = ()
BUFFERED = ("Content-Length: 90000",)  # and the body stays below the buffer's size
FORWARDED = ("Content-Length: 99999",)
# Octets of the body that are sent
PARTS: Mapping[Sequence[str], int] = {BUFFERED: 10, FORWARDED: 70_000}


@pytest.fixture
async def guarded(upstream: ScriptedUpstream) -> AsyncIterator[Stack]:
    """A sidecar that requires a session and keeps no idle upstream connections."""
    async with stack(upstream.url, upstream_idle_timeout="1ms") as running:
        yield running


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Disable the garbage collector, so objects are freed by their last reference only."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def left() -> Counter[str]:
    """Count the live request and connection objects by class."""
    names = (type(each).__name__ for each in gc.get_objects())
    return Counter(name for name in names if name in KINDS)


class Leaves(Enum):
    """What the client finally does."""

    ANSWERED = auto()  # closes after its whole answer has arrived
    CLOSE = auto()
    RESET = auto()
    LOGOUT = auto()  # its session is logged out
    WAIT = auto()  # until the other side ends the connection


ANSWERED, CLOSES, RESETS, LOGOUT, WAITS = Leaves


@pytest.mark.parametrize(
    ("sent", "script", "leaves"),
    [
        pytest.param(PLAIN, [b"HTTP/1.1 204 No Content\r\n\r\n"], ANSWERED, id="answered"),
        pytest.param(PLAIN, [BEGUN + b"0\r\n\r\n"], ANSWERED, id="streamed"),
        pytest.param(PLAIN, [BEGUN, WATCH], CLOSES, id="leaves-a-stream"),
        pytest.param(PLAIN, [BEGUN, WATCH], RESETS, id="resets-a-stream"),
        pytest.param(PLAIN, [BEGUN, RESET], WAITS, id="broken-stream"),
        pytest.param(PLAIN, [STALL], RESETS, id="leaves-before-the-answer"),
        pytest.param(BUFFERED, [STALL], RESETS, id="leaves-a-buffered-body"),
        pytest.param(FORWARDED, [STALL], RESETS, id="leaves-its-body"),
        pytest.param(ASK, [SWITCH, WATCH], CLOSES, id="leaves-a-tunnel"),
        pytest.param(ASK, [SWITCH, WATCH], RESETS, id="resets-a-tunnel"),
        pytest.param(ASK, [SWITCH, CLOSE], WAITS, id="ended-tunnel"),
        pytest.param(ASK, [SWITCH, RESET], WAITS, id="reset-tunnel"),
        pytest.param(PLAIN, [BEGUN, WATCH], LOGOUT, id="stream-of-a-session-that-ends"),
        pytest.param(ASK, [SWITCH, WATCH], LOGOUT, id="tunnel-of-a-session-that-ends"),
        pytest.param(BUFFERED, [STALL], LOGOUT, id="buffered-body-of-a-session-that-ends"),
        pytest.param(FORWARDED, [STALL], LOGOUT, id="upload-of-a-session-that-ends"),
    ],
)
@pytest.mark.usefixtures("uncollected")
async def test_nothing_is_left(
    upstream: ScriptedUpstream,
    guarded: Stack,
    sent: Sequence[str],
    script: Script,
    leaves: Leaves,
) -> None:
    """Whichever side ends an exchange, and at whatever point, none of its objects remains."""
    upstream.scripts = [script]
    token = (await guarded.login()).access
    connections = guarded.sidecar.metrics.connections
    await until(lambda: not connections["downstream"])
    before, idle = left(), connections["upstream"]  # the control plane's close later
    async with guarded.client() as client:
        await client.send(build("GET", "/x", *sent, token=token) + b"x" * PARTS.get(sent, 0))
        if leaves is ANSWERED:
            await client.response()
        elif sent == BUFFERED:
            await until(lambda: guarded.sidecar.metrics.in_flight > 0)
        elif STALL in script:
            await until(lambda: len(upstream.connections) > 0)
        else:
            await client.some()
        if leaves is LOGOUT:
            await guarded.logout(token)
        if leaves in {LOGOUT, WAITS}:
            await client.rest()
        elif leaves is RESETS:
            client.reset()
    await until(lambda: not connections["downstream"])
    await until(lambda: connections["upstream"] <= idle)
    await asyncio.sleep(0)
    assert left() <= before
