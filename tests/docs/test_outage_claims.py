"""What docs/operating.md says about a Redis outage, tested with two sidecars and a real Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.peers.patience import until
from tests.peers.raw_client import build, fetch
from tests.peers.redis_server import RedisServer
from tests.peers.scripted_upstream import ScriptedUpstream
from tests.peers.signed import NAMES
from tests.peers.stack import Stack, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

PATIENCE: Final = 10.0  # seconds, at most, until a change of Redis is noticed


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis that keeps its data when it is restarted, as in the manifests."""
    with RedisServer(keep=True) as server:
        yield server


@pytest.fixture
async def pods(redis: RedisServer) -> AsyncIterator[tuple[Stack, Stack]]:
    """Two sidecars that share this Redis."""
    shared: dict[str, Any] = {
        "session_store": "redis",
        "redis_host": "127.0.0.1",
        "redis_port": redis.port,
        "redis_timeout": 1.0,  # a busy machine is no outage
    }
    async with (
        ScriptedUpstream() as application,
        stack(application.url, **shared) as one,
        stack(application.url, **shared) as other,
    ):
        yield one, other


async def _up(redis: RedisServer, pods: tuple[Stack, Stack]) -> None:
    """Start Redis again, and wait until each pod has noticed."""
    redis.start()
    await until(lambda: not any(pod.sidecar.degraded for pod in pods), PATIENCE)


async def _down(redis: RedisServer, pods: tuple[Stack, Stack]) -> None:
    """Stop Redis, and let each pod notice by looking up a session."""
    token = (await pods[0].login("scout")).access
    redis.kill()
    for pod in pods:
        await pod.get("/", token=token)
    await until(lambda: all(pod.sidecar.degraded for pod in pods), PATIENCE)


async def _status(pod: Stack, token: str) -> int:
    return (await pod.get("/", token=token)).status


async def _refresh(pod: Stack, token: str) -> int:
    body = f'{{"refresh_token": "{token}"}}'.encode()
    lines = "Content-Type: application/json"
    return (await pod.ask(build("POST", "/auth/refresh", lines, body=body))).status


async def test_sessions_in_an_outage(redis: RedisServer, pods: tuple[Stack, Stack]) -> None:
    """A session stays usable only in pods that have seen it, and in all pods after the outage."""
    one, other = pods
    seen = (await one.login("alice")).access
    unseen = (await one.login("admin")).access
    assert await _status(other, seen) == 200
    await _down(redis, pods)
    assert [await _status(pod, seen) for pod in pods] == [200, 200]
    assert [await _status(pod, unseen) for pod in pods] == [200, 401]
    await _up(redis, pods)
    assert [await _status(pod, unseen) for pod in pods] == [200, 200]


async def test_readiness_in_an_outage(redis: RedisServer, pods: tuple[Stack, Stack]) -> None:
    """All pods stay ready, and their readiness reports `degraded`."""
    await _down(redis, pods)
    for pod in pods:
        ready = await fetch(pod.sidecar.admin_port, build("GET", "/readyz"))
        assert (ready.status, ready.json()) == (200, {"status": "ready", "degraded": True})
        assert await pod.metric("sidecar_degraded") == 1


async def test_logins_in_an_outage(redis: RedisServer, pods: tuple[Stack, Stack]) -> None:
    """A login made in an outage stays valid only in its pod until a refresh shares it."""
    one, _ = pods
    await _down(redis, pods)
    tokens = await one.login("alice")
    assert [await _status(pod, tokens.access) for pod in pods] == [200, 401]
    await _up(redis, pods)
    assert [await _status(pod, tokens.access) for pod in pods] == [200, 401]
    assert await _refresh(one, tokens.refresh) == 200
    assert redis.admin.zcard(NAMES.user("alice")) == 1


async def test_logouts_in_an_outage(redis: RedisServer, pods: tuple[Stack, Stack]) -> None:
    """A logout applies in its pod at once, and in all pods after the outage."""
    one, other = pods
    tokens = await one.login("alice")
    assert await _status(other, tokens.access) == 200
    await _down(redis, pods)
    await one.logout(tokens.access)
    assert [await _status(pod, tokens.access) for pod in pods] == [401, 200]
    await _up(redis, pods)
    assert [await _status(pod, tokens.access) for pod in pods] == [401, 401]
    assert [await _refresh(pod, tokens.refresh) for pod in pods] == [401, 401]


async def test_refresh_in_an_outage(redis: RedisServer, pods: tuple[Stack, Stack]) -> None:
    """A pod that did not write the login answers a refresh with 503 until the outage is over."""
    one, other = pods
    tokens = await one.login("alice")
    assert await _status(other, tokens.access) == 200
    await _down(redis, pods)
    assert await _refresh(other, tokens.refresh) == 503
    await _up(redis, pods)
    assert await _refresh(other, tokens.refresh) == 200


async def test_refresh_where_the_login_was_written(
    redis: RedisServer, pods: tuple[Stack, Stack]
) -> None:
    """The pod that wrote the login can refresh it without Redis."""
    one, _ = pods
    tokens = await one.login("alice")
    await _down(redis, pods)
    assert await _refresh(one, tokens.refresh) == 200


async def test_redis_comes_back_empty(redis: RedisServer, pods: tuple[Stack, Stack]) -> None:
    """A session that Redis has lost is refused."""
    one, _ = pods
    token = (await one.login("alice")).access
    redis.admin.flushall()
    assert await _status(one, token) == 401
