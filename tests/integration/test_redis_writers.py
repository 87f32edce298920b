"""Attackers who can write to Redis, and other applications on the same Redis, gain no entry.

Whole sidecars on a real Redis. The attacker knows all of this source, and no secret.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

from sidecar.secret import Secret
from tests.peers.patience import until
from tests.peers.raw_client import build
from tests.peers.redis_server import RedisServer
from tests.peers.scripted_upstream import ScriptedUpstream
from tests.peers.signed import NAMES
from tests.peers.stack import ALICE, REFRESH_SECRET, User, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.peers.stack import Stack

SOON: Final = 10.0
MALLORY: Final = User("mallory", roles=("admin",))
BOB: Final = User("bob", roles=("user",))
OTHER_SECRET: Final = "another-secret-0123456789abcdefghijklmn"
ADMIN_ROUTE: Final = {"path": "/admin/*", "roles": ["admin"]}
# What makes another application of a sidecar.
DIFFERENCES: Final[dict[str, dict[str, Any]]] = {
    "secrets": {"jwt_secret": OTHER_SECRET, "refresh_secret": OTHER_SECRET[::-1]},
    "issuer": {"jwt_issuer": "another"},
    "audience": {"jwt_audience": "another"},
    "refresh secret": {"refresh_secret": OTHER_SECRET},
    "prefix": {"redis_key_prefix": "another:"},
}
DIFFERENCES["everything"] = {
    **{name: value for each in DIFFERENCES.values() for name, value in each.items()},
    "refresh_secret": OTHER_SECRET[::-1],
    "users": (BOB,),
}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """One Redis for all tests here."""
    with RedisServer() as running:
        yield running


@pytest.fixture
def redis(server: RedisServer) -> RedisServer:
    """The Redis, emptied."""
    server.admin.flushall()
    return server


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """An application that answers 200."""
    async with ScriptedUpstream() as running:
        yield running


def shared(redis: RedisServer, **changed: Any) -> dict[str, Any]:
    """The settings of a sidecar on this Redis."""
    return {
        "session_store": "redis",
        "redis_host": "127.0.0.1",
        "redis_port": redis.port,
        "redis_timeout": 1.0,
        "routes": (ADMIN_ROUTE,),
        "users": (ALICE, MALLORY),
        **changed,
    }


@pytest.fixture
async def one(upstream: ScriptedUpstream, redis: RedisServer) -> AsyncIterator[Stack]:
    """A sidecar on the Redis."""
    async with stack(upstream.url, **shared(redis)) as running:
        yield running


async def post(running: Stack, path: str, *lines: str, body: Any = None) -> Any:
    """Post to the control plane."""
    form = "Content-Type: application/json"
    encoded = b"" if body is None else json.dumps(body).encode()
    return await running.ask(build("POST", path, form, *lines, body=encoded))


async def test_a_forged_session(one: Stack, redis: RedisServer) -> None:
    """A session that nobody began opens no door, whatever it says."""
    cookie = "a-cookie-that-the-attacker-chose"
    name = sha256(cookie.encode()).hexdigest()
    session = {
        "id": name,
        "sid": "x",
        "sub": "mallory",
        "claims": {"roles": ["admin"]},
        "created": 1.0,
        "exp": 9e9,
        "method": "password",
        "v": 1,
    }
    redis.admin.set(NAMES.token(name), json.dumps(session))
    answer = await one.get("/admin/x", f"Cookie: __Host-session={cookie}")
    assert answer.status == 401
    bad = 'sidecar_session_lookups_total{result="bad_mac",source="redis"}'
    assert await one.metric(bad) == 1


async def test_an_edited_session(one: Stack, redis: RedisServer) -> None:
    """A user's own session gives no other role, and no other user's session gives anything."""
    cookie, other = await one.cookie("alice"), await one.cookie("mallory")
    keys = [
        NAMES.token(sha256(each.partition("=")[2].encode()).hexdigest()) for each in (cookie, other)
    ]
    mine, theirs = (redis.value(key.decode()) for key in keys)
    other_digit = b"1" if mine.endswith(b"0") else b"0"
    for value in (mine.replace(b'["user"]', b'["admin"]'), theirs, mine[:-1] + other_digit):
        redis.admin.set(keys[0], value)
        assert value != mine
        assert (await one.get("/admin/x", f"Cookie: {cookie}")).status == 401
    redis.admin.set(keys[0], mine)
    assert (await one.get("/x", f"Cookie: {cookie}")).status == 200


async def test_an_edited_refresh_record(one: Stack, redis: RedisServer) -> None:
    """No role is gained through one's own refresh record, and the login does not grow younger."""
    tokens = await one.login()
    key = NAMES.refresh(sha256(tokens.refresh.encode()).hexdigest()).decode()
    stored = redis.admin.hget(key, "record")
    assert isinstance(stored, bytes)
    record = json.JSONDecoder().raw_decode(stored.decode())[0]
    record["record"] |= {"claims": {"roles": ["admin"]}, "method": "sso", "created": 9e9}
    tail = stored[stored.rindex(b" mac1:") :]
    for value in (msgspec.json.encode(record), msgspec.json.encode(record) + tail):
        redis.admin.hset(key, "record", value)
        answer = await post(one, "/auth/refresh", body={"refresh_token": tokens.refresh})
        assert answer.status == 401
    redis.admin.hset(key, "record", stored)
    answer = await post(one, "/auth/refresh", body={"refresh_token": tokens.refresh})
    assert answer.status == 200
    assert (await one.get("/admin/x", token=answer.json()["access_token"])).status == 403


@pytest.mark.parametrize("different", sorted(DIFFERENCES))
async def test_another_application(
    different: str, one: Stack, upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    """A session, its refresh token and a logout of all sessions mean nothing to it."""
    async with stack(upstream.url, **shared(redis, **DIFFERENCES[different])) as two:
        cookie, tokens = await one.cookie("mallory"), await one.login("mallory")
        line = f"Cookie: {cookie}"
        assert (await two.get("/admin/x", line)).status == 401
        assert (await two.get("/auth/userinfo", line)).status == 401
        assert (await two.get("/admin/x", token=tokens.access)).status == 401
        answer = await post(two, "/auth/refresh", body={"refresh_token": tokens.refresh})
        assert answer.status == 401
        await post(two, "/auth/logout", line, "Origin: http://sidecar.test")
        # With "everything", mallory is no user there. With other secrets alone, the realm and thus
        # the list of her logins are the same: applications need their own audience.
        if different not in {"everything", "secrets", "refresh secret"}:
            theirs = await two.login("mallory")
            listed = await two.get("/auth/sessions", token=theirs.access)
            assert len(listed.json()["sessions"]) == 1
            bearer = f"Authorization: Bearer {theirs.access}"
            assert (await post(two, "/auth/logout?all=true", bearer)).status == 204
            assert (await two.get("/x", token=theirs.access)).status == 401
        assert (await one.get("/admin/x", line)).status == 200
        assert (await one.get("/admin/x", token=tokens.access)).status == 200
        answer = await post(one, "/auth/refresh", body={"refresh_token": tokens.refresh})
        assert answer.status == 200


async def test_applications_that_share_a_login(
    one: Stack, upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    """With the same secrets, issuer, audience and prefix, a login counts at both."""
    async with stack(upstream.url, **shared(redis, session_cookie="session")) as two:
        token = (await one.login()).access
        assert (await two.get("/x", token=token)).status == 200
        await two.logout(token)
        assert (await one.get("/x", token=token)).status == 401


async def test_two_ways_to_say_no_audience(upstream: ScriptedUpstream, redis: RedisServer) -> None:
    """An empty audience and "*" say the same, so a warning's advice to change it ends no login."""
    async with (
        stack(upstream.url, **shared(redis, jwt_audience="")) as one,
        stack(upstream.url, **shared(redis, jwt_audience="*")) as two,
    ):
        assert (await two.get("/x", f"Cookie: {await one.cookie()}")).status == 200
        assert (await one.get("/x", token=(await two.login()).access)).status == 200


async def test_a_rotation(upstream: ScriptedUpstream, redis: RedisServer) -> None:
    """A pod that rotates its secret keeps cookies; one that removes it forgets them at once."""
    async with stack(upstream.url, **shared(redis)) as running:
        line = f"Cookie: {await running.cookie()}"
        await until(lambda: is_coherent(running), SOON)
        assert (await running.get("/x", line)).status == 200
        rotated = msgspec.structs.replace(
            running.settings,
            refresh_secret=Secret(OTHER_SECRET),
            refresh_secret_previous=Secret(REFRESH_SECRET),
        )
        await running.sidecar.reload(rotated)
        assert (await running.get("/x", line)).status == 200
        later = f"Cookie: {await running.cookie()}"
        removed = msgspec.structs.replace(rotated, refresh_secret_previous=Secret(""))
        await running.sidecar.reload(removed)
        assert (await running.get("/x", line)).status == 401
        assert (await running.get("/x", later)).status == 200


async def is_coherent(running: Stack) -> bool:
    """Whether Redis reports changes to this sidecar."""
    return await running.metric("sidecar_near_cache_coherent") == 1
