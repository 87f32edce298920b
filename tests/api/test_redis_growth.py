"""What one user can make Redis keep: a login that is refreshed, and logins without end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from sidecar.api.refresh_policy import RefreshPolicy
from sidecar.api.session_limit import SessionLimit
from sidecar.sessions.redis.connect import RedisConfig, connect
from tests.peers.redis_server import RedisServer
from tests.sessions.conftest import make_redis_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.api.control_plane import Api, Clock, Starter

LIMIT = 10 * 1024  # bytes
KINDS = ("sid", "token", "refresh")


@pytest.fixture
async def pods(start: Starter, clock: Clock) -> AsyncIterator[tuple[Api, Api, RedisServer]]:
    """Two control planes on one real Redis."""
    with RedisServer() as server:
        stores = [make_redis_store(connect(RedisConfig(port=server.port)), clock) for _ in range(2)]
        one, other = [await start(store) for store in stores]
        yield one, other, server
        for store in stores:
            await store.close()


def size(server: RedisServer) -> int:
    """The memory of all keys in bytes, each with its overhead."""
    return sum(server.admin.memory_usage(key, samples=0) or 0 for key in server.admin.scan_iter())


def kept(server: RedisServer) -> dict[str, int]:
    """The number of keys by kind."""
    keys = list(server.admin.scan_iter())
    return {kind: sum(f":{kind}:".encode() in key for key in keys) for kind in KINDS}


@pytest.mark.parametrize(
    "min_interval", [pytest.param(1.0, id="with-interval"), pytest.param(0.0, id="without")]
)
async def test_a_login_that_is_refreshed_does_not_grow(
    pods: tuple[Api, Api, RedisServer], min_interval: float
) -> None:
    """Hundreds of refreshes, at two pods in turn, add less than 10 KiB."""
    for api in pods[:2]:
        api.change(refreshing=RefreshPolicy(min_interval=min_interval))
    one, other, server = pods
    tokens = await one.login()
    before = size(server)
    for _ in range(100):
        for api in (one, other):
            tokens = await api.rotate(tokens["refresh_token"])
            assert size(server) - before < LIMIT
    assert kept(server) == {"sid": 1, "token": 2, "refresh": 3}
    assert server.admin.hlen(next(server.admin.scan_iter(match="*:sid:*"))) == 4


async def test_logins_without_end_leave_the_limit(pods: tuple[Api, Api, RedisServer]) -> None:
    """At two pods in turn, the oldest logins end with all that they had in Redis."""
    one, other, server = pods
    for api in (one, other):
        api.change(session_limit=SessionLimit(most=10))
    latest = []
    for _ in range(50):
        for api in (one, other):
            api.clock.now += 0.01
            latest.append(await api.login())
    assert kept(server) == dict.fromkeys(KINDS, 10)
    assert len(await one.store.sessions_of("alice")) == 10
    assert [await other.is_live(each["access_token"]) for each in latest[-12:]] == (
        [False] * 2 + [True] * 10
    )


@pytest.mark.parametrize("refuse", [pytest.param(False, id="end"), pytest.param(True, id="refuse")])
async def test_two_pods_at_once_converge(
    pods: tuple[Api, Api, RedisServer], *, refuse: bool
) -> None:
    """Logins that race at two pods do not exceed the limit, and end at most one too many.

    Each login spares itself, even if it is not among the latest. A refused one ends nothing else.
    """
    one, other, server = pods
    for api in (one, other):
        api.change(session_limit=SessionLimit(most=4, refuse=refuse))
    credentials = {"username": "alice", "password": "pw-alice"}
    await asyncio.gather(
        *(
            api.client.post("/auth/login", json=credentials)
            for api in (one, other)
            for _ in range(8)
        )
    )
    left = len(await one.store.sessions_of("alice"))
    assert left <= 4
    assert refuse or left >= 3
    assert kept(server) == dict.fromkeys(KINDS, left)


async def test_a_used_token_at_the_other_pod(
    pods: tuple[Api, Api, RedisServer], clock: Clock
) -> None:
    """Repeats are counted over all pods, and a use that was forgotten is recognised at each."""
    one, other, server = pods
    for api in (one, other):
        api.change(refreshing=RefreshPolicy(repeats=3))
    old = await one.login()
    new = await one.rotate(old["refresh_token"])
    for api in (other, one, other):
        again = await (await api.refresh(old["refresh_token"])).json()
        assert again["refresh_token"] == new["refresh_token"]
    stolen = await one.login()
    await one.rotate(stolen["refresh_token"])
    (used,) = [
        key
        for key in server.admin.scan_iter(match="*:refresh:*")
        if server.admin.hexists(key, "used") and not server.admin.hexists(key, "repeats")
    ]
    assert 0 < server.admin.pttl(used) <= 15_000
    server.admin.delete(used)  # as if its time had passed
    clock.now += 60
    assert (await other.refresh(stolen["refresh_token"])).status == 401
    assert other.logins("refresh", "reused") == 1
    clock.now -= 60
    assert (await one.refresh(old["refresh_token"])).status == 401
    assert one.logins("refresh", "reused") == 1
    assert await one.store.sessions_of("alice") == []
    assert kept(server)["token"] == 0
