"""Fixtures of the data plane's black-box tests: uvloop, a scripted upstream and an open proxy.

`proxy` has a single public route, so its tests deal with HTTP and leave authorisation aside.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest
import uvloop

from tests.peers.scripted_upstream import ScriptedUpstream
from tests.peers.stack import PUBLIC, Stack, stack
from tests.proxy.crank import Crank

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


# The servers in these tests close a connection before uvloop has attached it, after which uvloop's
# `Server.wait_closed` never returns.
_ON_ASYNCIO: Final = frozenset(("test_flow", "test_upstream_pool"))


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run the tests on uvloop, as production does, except for two modules of unit tests."""
    if item.path.stem in _ON_ASYNCIO:
        return {"asyncio": asyncio.new_event_loop}
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """An upstream that answers 200 `ok` unless a test sets other scripts."""
    async with ScriptedUpstream() as server:
        yield server


@pytest.fixture
async def proxy(upstream: ScriptedUpstream) -> AsyncIterator[Stack]:
    """A sidecar in front of `upstream` that allows every request."""
    async with stack(upstream.url, routes=PUBLIC) as running:
        yield running


@pytest.fixture
async def streaming(upstream: ScriptedUpstream) -> AsyncIterator[Stack]:
    """As `proxy`, but a request is forwarded before any of its body has arrived."""
    async with stack(upstream.url, routes=PUBLIC, body_buffer_size=0) as running:
        yield running


@pytest.fixture
def crank(monkeypatch: pytest.MonkeyPatch) -> Crank:
    """The data plane's monotonic clock, which the test advances by hand."""
    return Crank(monkeypatch)
