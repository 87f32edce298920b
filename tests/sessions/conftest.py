"""Fixtures of the session tests: uvloop as in production, a real Redis, each kind of store."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import fakeredis
import pytest
import uvloop

from sidecar.sessions.memory.local import LocalStore
from sidecar.sessions.redis.connect import RedisConfig, connect
from sidecar.sessions.redis.store import RedisStore
from sidecar.sessions.tiered.breaker import Breaker
from sidecar.sessions.tiered.store import TieredStore
from sidecar.telemetry.metrics import Metrics
from tests.peers.clock import Clock
from tests.peers.redis_server import RedisServer, free_port
from tests.peers.signed import MAC
from tests.sessions.contract import Subject

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Iterator

    from redis.asyncio import Redis

PATIENT = 2.0  # seconds; long enough that a busy machine does not fail a test


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every test here on the loop that production uses."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def clock() -> Clock:
    """A clock that the test turns."""
    return Clock()


@pytest.fixture
def metrics() -> Metrics:
    """Metrics, in which stores count look-ups."""
    return Metrics()


@pytest.fixture(scope="session")
def shared_server() -> Iterator[RedisServer]:
    """One server for all tests that do not kill or configure it."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def server(shared_server: RedisServer) -> RedisServer:
    """The shared server, emptied."""
    shared_server.admin.flushall()
    shared_server.forget_calls()
    return shared_server


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A server for this test alone, which it may kill. Its data survive a restart."""
    with RedisServer(keep=True) as server:
        yield server


async def let_pass(seconds: float, clock: Clock, client: Redis) -> None:
    """Let seconds pass for a store and for the keys in its Redis."""
    clock.advance(seconds)
    for key in await client.keys("*"):
        left = await client.pttl(key)
        if left != -1:
            await client.pexpire(key, max(0, left - int(seconds * 1000)))


@asynccontextmanager
async def local_subject(clock: Clock) -> AsyncIterator[Subject]:
    """A local store."""

    async def forward(seconds: float) -> None:
        clock.advance(seconds)

    yield Subject(LocalStore(clock), clock, forward)


def make_redis_store(client: Redis, clock: Callable[[], float]) -> RedisStore:
    """A Redis store on a client."""
    return RedisStore(client, Metrics(), MAC, clock=clock, timeout=PATIENT)


@asynccontextmanager
async def redis_subject(client: Redis, clock: Clock) -> AsyncIterator[Subject]:
    """A Redis store on a client."""
    store = make_redis_store(client, clock)

    async def forward(seconds: float) -> None:
        await let_pass(seconds, clock, client)

    yield Subject(store, clock, forward)
    await store.close()


@asynccontextmanager
async def tiered_subject(client: Redis, clock: Clock) -> AsyncIterator[Subject]:
    """A tiered store over a Redis store on a client."""
    remote = make_redis_store(client, clock)
    store = TieredStore(
        remote, Breaker(), Metrics(), clock=clock, monotonic=clock, sleep=clock.sleep
    )
    await store.start()

    async def forward(seconds: float) -> None:
        if store.degraded:
            clock.advance(seconds)
        else:
            await let_pass(seconds, clock, client)

    yield Subject(store, clock, forward, alone=store.degraded)
    await store.close()


@pytest.fixture(params=["local", "fake", "redis", "tiered", "degraded"])
async def subject(
    request: pytest.FixtureRequest, clock: Clock, server: RedisServer
) -> AsyncIterator[Subject]:
    """Each kind of store in turn; `degraded` is a tiered store that never had a Redis."""
    if request.param == "local":
        context = local_subject(clock)
    elif request.param == "fake":
        context = redis_subject(fakeredis.FakeAsyncRedis(), clock)
    elif request.param == "redis":
        context = redis_subject(connect(RedisConfig(port=server.port)), clock)
    else:
        port = server.port if request.param == "tiered" else free_port()
        context = tiered_subject(connect(RedisConfig(host="127.0.0.1", port=port)), clock)
    async with context as made:
        yield made
