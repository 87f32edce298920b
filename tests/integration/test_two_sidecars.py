"""Two sidecars on one real Redis share their sessions and survive an outage.

Redis is killed and started again during requests; its data survive on disk, as in production.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.peers.patience import until
from tests.peers.raw_client import build
from tests.peers.redis_server import RedisServer
from tests.peers.scripted_upstream import ScriptedUpstream
from tests.peers.stack import Stack, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

RECOVERY = 10.0  # seconds within which a sidecar must use Redis again


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis with a password whose data survive a restart."""
    with RedisServer(password="the-redis-password", keep=True) as server:
        yield server


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """An application that answers 200."""
    async with ScriptedUpstream() as server:
        yield server


def shared(redis: RedisServer) -> dict[str, Any]:
    """Return the settings of a sidecar on this Redis."""
    return {
        "session_store": "redis",
        "redis_host": "127.0.0.1",
        "redis_port": redis.port,
        "redis_password": redis.password,
        "redis_timeout": 1.0,  # a busy machine must not look like an outage
        "routes": ({"path": "/open/*", "access": "public"},),
    }


@pytest.fixture
async def pair(
    upstream: ScriptedUpstream, redis: RedisServer
) -> AsyncIterator[tuple[Stack, Stack]]:
    """Two sidecars on the same Redis."""
    async with (
        stack(upstream.url, **shared(redis)) as one,
        stack(upstream.url, **shared(redis)) as two,
    ):
        yield one, two


async def status(running: Stack, token: str) -> int:
    """Return the status of a request to a protected path with this token."""
    return (await running.get("/x", token=token)).status


async def is_shared(running: Stack) -> bool:
    """Return whether the sidecar is using Redis again."""
    return await running.metric("sidecar_degraded") == 0


async def test_login_at_one_is_valid_at_the_other(pair: tuple[Stack, Stack]) -> None:
    """A login at either sidecar is valid at the other at once."""
    one, two = pair
    for here, there in ((one, two), (two, one)):
        token = (await here.login()).access
        assert await status(there, token) == await status(here, token) == 200


async def test_logout_at_one_ends_it_at_the_other(pair: tuple[Stack, Stack]) -> None:
    """A logout holds at the other sidecar at once, even if its token has just been used there."""
    one, two = pair
    token, other = (await one.login()).access, (await one.login()).access
    assert await status(two, token) == 200
    await one.logout(token)
    assert await status(one, token) == 401
    assert await status(two, token) == 401
    assert await status(two, other) == 200


async def test_cookie_session_is_shared(pair: tuple[Stack, Stack]) -> None:
    """A browser session is shared, and so is its logout."""
    one, two = pair
    cookie = f"Cookie: {await one.cookie()}"
    assert (await two.get("/x", cookie)).status == 200
    origin = "Origin: http://sidecar.test"
    assert (await two.ask(build("POST", "/auth/logout", cookie, origin, body=b""))).status == 204
    assert (await one.get("/x", cookie)).status == 401


async def test_refresh_at_the_other(pair: tuple[Stack, Stack]) -> None:
    """A refresh at the other sidecar works; the access token of before counts for a while."""
    one, two = pair
    old = await one.login()
    body = f'{{"refresh_token": "{old.refresh}"}}'.encode()
    request = build("POST", "/auth/refresh", "Content-Type: application/json", body=body)
    answer = await two.ask(request)
    assert answer.status == 200
    assert await status(one, answer.json()["access_token"]) == 200
    for running in (one, two):
        assert await status(running, old.access) == 200
    await two.logout(old.access)
    for running in (one, two):
        assert await status(running, old.access) == 401
        assert await status(running, answer.json()["access_token"]) == 401


async def test_sessions_outlive_a_restart_of_the_sidecar(
    upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    """A new process knows the sessions of its predecessor."""
    async with stack(upstream.url, **shared(redis)) as first:
        token = (await first.login()).access
    async with stack(upstream.url, **shared(redis)) as second:
        assert await status(second, token) == 200


async def test_redis_holds_no_usable_token(pair: tuple[Stack, Stack], redis: RedisServer) -> None:
    """Keys and values in Redis contain no token, cookie or password."""
    tokens, cookie = await pair[0].login(), await pair[0].cookie()
    secrets = {tokens.access, tokens.refresh, cookie.partition("=")[2], "pw-alice"}
    found = redis.admin.keys("*")
    keys = [key.decode() if isinstance(key, bytes) else key for key in found]
    assert [key for key in keys if key.startswith("session:token:")]
    dump = " ".join(keys) + " ".join(str(redis.admin.dump(key)) for key in keys)
    assert not [secret for secret in secrets if secret in dump]
    assert all(redis.admin.ttl(key) > 0 for key in keys)


async def test_redis_absent_at_start(upstream: ScriptedUpstream, redis: RedisServer) -> None:
    """A sidecar starts without Redis, serves from memory, and uses Redis when it comes up."""
    redis.kill()
    async with stack(upstream.url, **shared(redis)) as running:
        token = (await running.login()).access
        assert await status(running, token) == 200
        await asyncio.to_thread(redis.start)
        await until(lambda: is_shared(running), RECOVERY)
        assert await status(running, token) == 200
        later = (await running.login()).access
        async with stack(upstream.url, **shared(redis)) as other:
            assert await status(other, later) == 200


async def is_degraded(running: Stack) -> bool:
    """Return whether the sidecar has noticed the outage."""
    return await running.metric("sidecar_degraded") == 1


async def _traffic(running: Stack, token: str, seen: Counter[int], stop: asyncio.Event) -> None:
    """Send requests one after the other on one connection until stopped."""
    async with running.client() as client:
        while not stop.is_set():
            seen[(await client.ask(build("GET", "/x", token=token))).status] += 1
            seen[(await client.ask(build("GET", "/open/x"))).status] += 1
            await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def traffic(pair: tuple[Stack, Stack], token: str) -> AsyncIterator[Counter[int]]:
    """Run four clients at each sidecar; count the answers by status."""
    seen: Counter[int] = Counter()
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for running in pair * 4:
            group.create_task(_traffic(running, token, seen, stop))
        try:
            yield seen
        finally:
            stop.set()


@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_redis_goes_and_comes_back_under_traffic(
    pair: tuple[Stack, Stack], redis: RedisServer, fault: str
) -> None:
    """An outage under traffic causes no 5xx and loses no login; afterwards all is shared."""
    one, two = pair
    before = (await one.login()).access
    assert await status(two, before) == 200
    async with traffic(pair, before) as seen:
        await until(lambda: seen[200] > 40)
        await asyncio.to_thread(redis.kill if fault == "kill" else redis.freeze)
        meanwhile = (await one.login()).access
        assert await status(one, meanwhile) == 200
        await until(lambda: is_degraded(one))
        ended = (await one.login()).access
        await one.logout(ended)
        assert await status(one, ended) == 401
        await asyncio.to_thread(redis.start if fault == "kill" else redis.thaw)
        await until(lambda: is_shared(one), RECOVERY)
        await until(lambda: is_shared(two), RECOVERY)
        assert await status(one, meanwhile) == 200
        assert await status(one, ended) == 401
        after = (await two.login()).access
        assert await status(one, after) == 200
        assert await status(one, before) == await status(two, before) == 200
    assert set(seen) <= {200, 401}


async def test_logout_during_an_outage_holds_afterwards(
    pair: tuple[Stack, Stack], redis: RedisServer
) -> None:
    """A session that was ended during an outage does not come back with Redis."""
    one, _ = pair
    token = (await one.login()).access
    assert await status(one, token) == 200
    await asyncio.to_thread(redis.kill)
    answer = await one.ask(build("POST", "/auth/logout", token=token, body=b""))
    assert answer.status in {204, 401}
    if answer.status == 204:
        assert await status(one, token) == 401
        await asyncio.to_thread(redis.start)
        await until(lambda: is_shared(one), RECOVERY)
        assert await status(one, token) == 401
