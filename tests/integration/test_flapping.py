"""A Redis that is slow for a moment, and users with many logins: no good session gets 401.

Two sidecars and a real Redis, which is suspended and resumed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.peers.fault_proxy import FaultProxy
from tests.peers.patience import until
from tests.peers.raw_client import build
from tests.peers.redis_server import RedisServer
from tests.peers.scripted_upstream import ScriptedUpstream
from tests.peers.stack import Stack, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

SOON: Final = 15.0  # seconds: an upper limit on a busy machine
MANY: Final = 130


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis."""
    with RedisServer() as server:
        yield server


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """An application that answers 200."""
    async with ScriptedUpstream() as server:
        yield server


def shared(port: int, **more: Any) -> dict[str, Any]:
    """Return the settings of a sidecar on the Redis at this port."""
    return {
        "session_store": "redis",
        "redis_host": "127.0.0.1",
        "redis_port": port,
        "max_sessions": 0,  # a test logs one user in many times
        **more,
    }


@pytest.fixture
async def pair(
    upstream: ScriptedUpstream, redis: RedisServer
) -> AsyncIterator[tuple[Stack, Stack]]:
    """Two sidecars on the same Redis."""
    async with (
        stack(upstream.url, **shared(redis.port)) as one,
        stack(upstream.url, **shared(redis.port)) as two,
    ):
        yield one, two


async def status(running: Stack, token: str) -> int:
    """Return the status of a request to a protected path with this token."""
    return (await running.get("/x", token=token)).status


async def until_degraded(running: Stack, token: str) -> list[int]:
    """Ask until the sidecar has stopped using Redis, and once more. Returns the statuses."""
    found = []
    while not running.sidecar.degraded:
        found.append(await status(running, token))
    return [*found, await status(running, token)]


async def test_what_flaps_is_503(pair: tuple[Stack, Stack], redis: RedisServer) -> None:
    """A session that this pod does not know gets no 401, however often Redis comes and goes.

    A session that was ended here does.
    """
    here, there = pair
    known = (await here.login()).access
    for _ in range(3):
        unknown = (await there.login()).access
        redis.freeze()
        assert set(await until_degraded(here, unknown)) == {503}
        assert int((await here.get("/x", token=unknown)).fields.one("retry-after")) > 0
        assert await status(here, known) == 200
        ended = (await here.login()).access
        await here.logout(ended)
        assert await status(here, ended) == 401
        redis.thaw()
        await until(lambda: not here.sidecar.degraded and not there.sidecar.degraded, SOON)
        assert await status(here, unknown) == 200


async def test_what_lasts_is_401(pair: tuple[Stack, Stack], redis: RedisServer) -> None:
    """After some seconds without an answer the outage is certain, and mode `local` applies."""
    here, there = pair
    unknown = (await there.login()).access
    redis.freeze()
    statuses = await until_degraded(here, unknown)

    async def is_401() -> bool:
        statuses.append(await status(here, unknown))
        return statuses[-1] == 401

    await until(is_401, SOON)
    assert set(statuses[:-1]) == {503}
    assert not (await here.get("/x", token=unknown)).fields.all("retry-after")
    redis.thaw()
    await until(lambda: not here.sidecar.degraded, SOON)
    assert await status(here, unknown) == 200


async def test_a_closed_port_is_401(upstream: ScriptedUpstream, redis: RedisServer) -> None:
    """Where nothing listens, there is nothing to wait for."""
    async with (
        FaultProxy(redis.port) as proxy,
        stack(upstream.url, **shared(proxy.port)) as here,
        stack(upstream.url, **shared(redis.port)) as there,
    ):
        unknown = (await there.login()).access
        await proxy.refuse()
        await until_degraded(here, unknown)
        assert await status(here, unknown) == 401


async def test_a_user_with_many_logins(pair: tuple[Stack, Stack], redis: RedisServer) -> None:
    """Twenty of its listings at a time read a page each and take Redis out of use at no pod."""
    here, there = pair
    mine = [(await here.login()).access for _ in range(MANY)]
    others = [(await here.login("admin")).access for _ in range(40)]
    ended = (await here.login("admin")).access
    assert await status(there, ended) == 200
    redis.forget_calls()
    listings = [
        asyncio.ensure_future(there.get("/auth/sessions", token=token)) for token in mine[:20]
    ]
    assert [await status(there, token) for token in others] == [200] * len(others)
    await here.logout(ended)
    await until(lambda: there_says(there, ended, 401), SOON)
    answers = await asyncio.gather(*listings)
    assert [answer.status for answer in answers] == [200] * 20
    assert redis.calls()["hgetall"] <= 20 * (51 + 1) + 2
    assert not here.sidecar.degraded
    assert not there.sidecar.degraded
    sids, answer = [], answers[0]
    while True:
        sids += [each["sid"] for each in answer.json()["sessions"]]
        links = answer.fields.all("link")
        if not links:
            break
        target = links[0].decode().partition(">")[0].lstrip("<")
        answer = await there.ask(build("GET", target, token=mine[0]))
    assert len(sids) == len(set(sids)) == MANY


async def there_says(running: Stack, token: str, expected: int) -> bool:
    """Return whether a sidecar answers a token with this status."""
    return await status(running, token) == expected
