"""Deadlines of operations on Redis: what is Redis' fault, and what is this process's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.sessions.redis.connect import RedisConfig, connect
from sidecar.sessions.redis.faults import Fault, RedisUnavailable
from sidecar.sessions.redis.link import RedisLink
from sidecar.sessions.redis.store import RedisStore
from tests.peers.busy_loop import busy_loop
from tests.peers.fault_proxy import FaultProxy
from tests.peers.signed import MAC
from tests.sessions.conftest import PATIENT
from tests.sessions.contract import new_login

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from sidecar.telemetry.metrics import Metrics
    from tests.peers.clock import Clock
    from tests.peers.redis_server import RedisServer

TIMEOUT: Final = 0.1  # seconds


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[FaultProxy]:
    """A proxy in front of the shared server."""
    async with FaultProxy(server.port) as made:
        yield made


@pytest.fixture
async def link(proxy: FaultProxy) -> AsyncIterator[RedisLink]:
    """A link with three slots through the proxy."""
    client = connect(RedisConfig(host="127.0.0.1", port=proxy.port, max_connections=4))
    made = RedisLink(client, timeout=TIMEOUT, slots=8)
    yield made
    await made.close()


async def ping(redis: Redis) -> Any:
    """The smallest operation."""
    return await redis.ping()


async def fault_of(link: RedisLink, *, waited: float = 0.0) -> Fault:
    """The fault of an operation that fails."""
    with pytest.raises(RedisUnavailable) as caught:
        await link.run(ping, waited=waited)
    return caught.value.fault


async def test_a_silent_redis(link: RedisLink, proxy: FaultProxy) -> None:
    """If Redis had the whole time, the fault is Redis'."""
    proxy.stall()
    assert await fault_of(link) is Fault.TIMEOUT


@pytest.mark.parametrize("waited", [0.5 * TIMEOUT, 0.99 * TIMEOUT, 2 * TIMEOUT])
async def test_an_operation_that_waited_here(
    link: RedisLink, proxy: FaultProxy, waited: float
) -> None:
    """If Redis had only what was left of the time, the fault is not Redis'."""
    proxy.stall()
    assert await fault_of(link, waited=waited) is Fault.BUSY


async def test_an_operation_without_a_slot(link: RedisLink) -> None:
    """A probe runs at once, although operations of this process take all slots."""
    free = asyncio.Event()

    async def hold(_: Redis) -> None:
        await free.wait()

    holding = [asyncio.ensure_future(link.run(hold)) for _ in range(link.slots)]
    await asyncio.sleep(0)
    assert await link.probe(ping)
    free.set()
    await asyncio.gather(*holding)


async def test_a_busy_process(server: RedisServer, metrics: Metrics, clock: Clock) -> None:
    """If this process takes long for each turn of its loop, look-ups on new connections succeed."""
    grant = new_login(clock.now)
    patient = RedisStore(
        connect(RedisConfig(port=server.port)), metrics, MAC, clock=clock, timeout=PATIENT
    )
    await patient.write(grant)
    await patient.close()
    config = RedisConfig(port=server.port, timeout=PATIENT)
    store = RedisStore(connect(config), metrics, MAC, clock=clock, timeout=0.02)
    with busy_loop(0.005):
        assert await store.get(grant.session.id) == grant.session
        await store.ping()
    await store.close()
