"""What the data plane's black-box tests share: uvloop as in production, an upstream, an open proxy.

`proxy` has one public route, so that its tests are about HTTP and not about who may pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import uvloop

from tests.peers.scripted_upstream import ScriptedUpstream
from tests.peers.stack import PUBLIC, Stack, stack

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every test here on the loop that production uses."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """An upstream that answers 200 `ok` until a test gives it other scripts."""
    async with ScriptedUpstream() as server:
        yield server


@pytest.fixture
async def proxy(upstream: ScriptedUpstream) -> AsyncIterator[Stack]:
    """A sidecar in front of `upstream` that lets everyone pass."""
    async with stack(upstream.url, routes=PUBLIC) as running:
        yield running
