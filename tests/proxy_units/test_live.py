"""What lasts and ends by itself while somebody is about to look whether it may go on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sidecar.auth.gate import Allow
from sidecar.proxy.live import Live
from sidecar.wire.requests import RequestParser
from tests.proxy_units.memory_plane import Plane, rest

if TYPE_CHECKING:
    import pytest

ASK = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


async def test_it_is_not_looked_at_any_more(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing of it is left to look at, and nobody is told that it ends."""
    shared = Plane().shared
    live = Live(shared.gate, shared.store, shared.tasks, clock=lambda: 100.0)
    live.start()
    head = RequestParser(shared.fields, shared.paths, shared.limits.head).parse(ASK)
    ended: list[str] = []
    allow = Allow(b"", "alice", "", b"{}", expires=50.0)
    watched = live.watch(shared.routes.default, head, allow, lambda: ended.append("once"))
    assert watched is not None
    for _ in range(10):  # turns, until it is seen that its time is over
        if watched.checking:
            break
        await asyncio.sleep(0)
    assert watched.checking
    watched.release()
    await rest()
    assert not watched.checking
    assert (ended, live.ended, len(live)) == ([], 0, 0)
    assert caplog.messages == []
    await shared.tasks.close()
