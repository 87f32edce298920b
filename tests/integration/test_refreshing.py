"""Refreshing through whole sidecars on one real Redis: copies of tokens, pace, number of logins."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.peers.patience import until
from tests.peers.raw_client import build
from tests.peers.redis_server import RedisServer
from tests.peers.scripted_upstream import ScriptedUpstream
from tests.peers.stack import Stack, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.peers.raw_client import Response


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis of this test alone."""
    with RedisServer() as server:
        yield server


@pytest.fixture
async def pair(redis: RedisServer) -> AsyncIterator[tuple[Stack, Stack]]:
    """Two sidecars on the same Redis, behind a proxy that they trust."""
    settings: dict[str, Any] = {
        "session_store": "redis",
        "redis_host": "127.0.0.1",
        "redis_port": redis.port,
        "redis_timeout": 1.0,  # a busy machine must not look like an outage
        "max_sessions": 5,
        "trusted_proxies": ("127.0.0.1",),
    }
    async with (
        ScriptedUpstream() as upstream,
        stack(upstream.url, **settings) as one,
        stack(upstream.url, **settings) as two,
    ):
        yield one, two


async def refresh(
    running: Stack, token: str, address: str = "192.0.2.7", agent: str = "browser"
) -> Response:
    """Refresh as a client with this address, through the proxy."""
    lines = (
        "Content-Type: application/json",
        f"X-Forwarded-For: {address}",
        f"User-Agent: {agent}",
    )
    body = f'{{"refresh_token": "{token}"}}'.encode()
    return await running.ask(build("POST", "/auth/refresh", *lines, body=body))


async def is_live(running: Stack, token: str) -> bool:
    """Whether a request with this access token reaches the application."""
    return (await running.get("/x", token=token)).status == 200


async def test_requests_under_way(redis: RedisServer) -> None:
    """After a refresh, the access token of before counts at both pods until its grace has ended.

    Its session in Redis then expires as well.
    """
    settings: dict[str, Any] = {
        "session_store": "redis",
        "redis_host": "127.0.0.1",
        "redis_port": redis.port,
        "redis_timeout": 1.0,
        "access_grace": "2s",
    }
    async with (
        ScriptedUpstream() as upstream,
        stack(upstream.url, **settings) as one,
        stack(upstream.url, **settings) as two,
    ):
        old = await one.login()
        assert await is_live(two, old.access)  # both pods now know it by heart
        assert await is_live(one, old.access)
        answer = await refresh(one, old.refresh)
        new = answer.json()["access_token"]
        began = time.monotonic()
        shown = [await is_live(pod, token) for pod in (one, two) for token in (old.access, new)]
        if time.monotonic() - began < 1.5:  # on a busy machine the grace may be over
            assert shown == [True] * 4

        async def has_ended() -> bool:
            return not await is_live(one, old.access) and not await is_live(two, old.access)

        await until(has_ended)
        assert time.monotonic() - began > 1.0
        assert await is_live(one, new)
        assert await is_live(two, new)
        await until(lambda: len(redis.admin.keys("session:token:*")) == 1)


async def test_no_grace(redis: RedisServer) -> None:
    """With ACCESS_GRACE=0 a refresh ends the access token of before at once, at every pod."""
    settings: dict[str, Any] = {
        "session_store": "redis",
        "redis_host": "127.0.0.1",
        "redis_port": redis.port,
        "redis_timeout": 1.0,
        "access_grace": "0",
    }
    async with (
        ScriptedUpstream() as upstream,
        stack(upstream.url, **settings) as one,
        stack(upstream.url, **settings) as two,
    ):
        old = await one.login()
        assert await is_live(two, old.access)
        answer = await refresh(one, old.refresh)
        for pod in (one, two):
            assert not await is_live(pod, old.access)
            assert await is_live(pod, answer.json()["access_token"])


@pytest.mark.parametrize(
    ("address", "agent", "repeated"),
    [
        pytest.param("192.0.2.7", "browser", True, id="the-same-client"),
        pytest.param("192.0.2.8", "browser", False, id="another-address"),
        pytest.param("192.0.2.7", "curl", False, id="another-agent"),
    ],
)
async def test_a_copied_refresh_token(
    pair: tuple[Stack, Stack],
    address: str,
    agent: str,
    repeated: bool,  # noqa: FBT001 (a parameter)
) -> None:
    """Another client with a copy gets nothing at another pod, and the owner notices."""
    one, two = pair
    old = await one.login()
    new = (await refresh(one, old.refresh)).json()
    answer = await refresh(two, old.refresh, address, agent)
    assert answer.status == (200 if repeated else 401)
    assert await is_live(one, new["access_token"]) is repeated
    result = "repeated" if repeated else "reused"
    assert await two.metric(f'sidecar_logins_total{{method="refresh",result="{result}"}}') == 1


async def test_a_client_that_changes_its_ipv6_address(pair: tuple[Stack, Stack]) -> None:
    """Addresses of one /64 are one client; those of the next one are not."""
    one, two = pair
    old = await one.login()
    new = (await refresh(one, old.refresh, "2001:db8:0:7::1")).json()
    again = await refresh(two, old.refresh, "2001:db8:0:7:ffff::2")
    assert again.json()["refresh_token"] == new["refresh_token"]
    assert (await refresh(two, old.refresh, "2001:db8:0:8::1")).status == 401
    assert not await is_live(one, new["access_token"])


async def test_refreshing_without_pause(pair: tuple[Stack, Stack], redis: RedisServer) -> None:
    """After the first refresh, each is refused at every pod until its time has come."""
    one, two = pair
    tokens = await one.login()
    new = (await refresh(one, tokens.refresh)).json()
    for running in (one, two, one):
        answer = await refresh(running, new["refresh_token"])
        assert answer.status == 429
        assert answer.fields.one("retry-after") == b"1"
    (live,) = [
        key
        for key in redis.admin.scan_iter(match="session:refresh:*")
        if not redis.admin.hexists(key, "used")
    ]
    assert redis.admin.ttl(live) > 60
    assert await is_live(two, new["access_token"])


async def test_logins_at_both_pods(pair: tuple[Stack, Stack], redis: RedisServer) -> None:
    """The oldest end, at whichever pod they began."""
    logins = [await running.login() for _ in range(6) for running in pair]
    live = [await is_live(pair[0], each.access) for each in logins]
    assert live == [False] * 7 + [True] * 5
    assert len(list(redis.admin.scan_iter(match="session:sid:*"))) == 5
