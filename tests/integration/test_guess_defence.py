"""Guesses at whole sidecars, and counters in a real Redis that pods share, lose and find again."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.api import passwords
from sidecar.api.guesses import Blocked, GuessDefence, GuessLimits
from sidecar.sessions.redis.connect import RedisConfig, connect
from sidecar.sessions.redis.guess_counters import CONNECTIONS, LOOKUPS, RedisGuessCounters
from sidecar.sessions.redis.key_names import KeyNames
from tests.peers.clock import Clock
from tests.peers.patience import until
from tests.peers.raw_client import build
from tests.peers.redis_server import RedisServer, free_port
from tests.peers.scripted_upstream import ScriptedUpstream
from tests.peers.stack import Stack, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.peers.raw_client import Response

LIMITS: Final = GuessLimits(user_address=3, address=50, user=50, window=100.0, key=b"k")
NAMES: Final = KeyNames("session:", "realm")
HERE, THERE = "192.0.2.1", "198.51.100.1"
PATIENT: Final = 2.0  # seconds; a busy machine must not look like an outage
PAUSED: Final = 1.5  # seconds after a fault, after which Redis is tried again


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis for this test alone, whose data survive a restart."""
    with RedisServer(keep=True) as server:
        yield server


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """An application that answers 200."""
    async with ScriptedUpstream() as server:
        yield server


class Pod:
    """The defence of one pod, with a clock that the test turns."""

    def __init__(self, port: int, clock: Clock, timeout: float = PATIENT) -> None:
        config = RedisConfig(host="127.0.0.1", port=port, max_connections=CONNECTIONS)
        self.counters = RedisGuessCounters(connect(config), NAMES, timeout=timeout, monotonic=clock)
        self.defence = GuessDefence(self.counters, clock=clock)

    async def fail(self, name: str, address: str, limits: GuessLimits = LIMITS) -> float:
        """A wrong attempt: 0, or the seconds for which it is blocked."""
        attempt = self.defence.attempt(name, address, limits)
        found = await self.defence.look(attempt)
        blocked = found if isinstance(found, Blocked) else await self.defence.count(attempt)
        return 0.0 if blocked is None else blocked.wait

    async def succeed(self, name: str, address: str) -> bool:
        """A right attempt: whether it was let through."""
        if await self.fail(name, address):
            return False
        await self.defence.forgive(self.defence.attempt(name, address, LIMITS))
        return True


@asynccontextmanager
async def pods(port: int, **changed: float) -> AsyncIterator[tuple[Pod, Pod, Clock]]:
    """Two pods on one Redis, and their clock, at the beginning of a window."""
    clock = Clock()
    clock.now -= clock.now % LIMITS.window
    one, two = Pod(port, clock, **changed), Pod(port, clock, **changed)
    try:
        yield one, two, clock
    finally:
        await one.counters.close()
        await two.counters.close()


# The counters that pods share


async def test_pods_count_together(redis: RedisServer) -> None:
    """Failures at either pod count for both, and so does the wait."""
    async with pods(redis.port) as (one, two, clock):
        assert [await pod.fail("alice", HERE) for pod in (one, two, one)] == [0, 0, 0]
        wait = await two.fail("alice", HERE)
        assert wait > 0
        assert not await one.succeed("alice", HERE)
        assert await one.succeed("alice", THERE)
        clock.now += 2 * wait
        assert await one.succeed("alice", HERE)


async def test_a_success_counts_at_every_pod(redis: RedisServer) -> None:
    """It resets the failures, and makes the address familiar everywhere."""
    limits = GuessLimits(user_address=3, address=4, user=50, window=100.0, key=b"k")
    async with pods(redis.port) as (one, two, _):
        for _ in range(2):
            await one.fail("alice", HERE)
        assert await one.succeed("alice", HERE)
        assert [await two.fail("alice", HERE) for _ in range(2)] == [0, 0]
        for number in range(5):
            await two.fail(f"user-{number}", HERE, limits)
        assert await two.fail("bob", HERE, limits) > 0
        assert await two.fail("alice", HERE, limits) == 0


async def test_little_in_redis(redis: RedisServer) -> None:
    """Each key is small, has a TTL, and names nobody; one attempt is one round trip."""
    async with pods(redis.port) as (one, _, clock):
        for _ in range(10):
            for _ in range(20):
                await one.fail("alice", HERE)
            clock.now += LIMITS.window
        assert await one.succeed("bob", THERE)
    lives = redis.lives()
    assert len(lives) == 3 + 3  # of bob's pair there is only that it is familiar
    names = {name.removeprefix("session:guess:") for name in lives}
    assert {len(name) for name in names} == {32}
    assert not any("alice" in name or HERE in name for name in names)
    assert {round(life / 1000) for life in lives.values()} <= {0, 2592}
    assert sum(life <= 200 for life in lives.values()) == 5
    for name in lives:
        assert redis.admin.hlen(name) <= 3
        assert int(str(redis.command("MEMORY", "USAGE", name))) < 300


async def test_blocked_attempts_do_not_reach_redis(redis: RedisServer) -> None:
    """An attempt that is refused costs nothing but memory look-ups, and writes nothing."""
    async with pods(redis.port) as (one, _, _clock):
        for _ in range(4):
            await one.fail("alice", HERE)
        redis.forget_calls()
        for _ in range(100):
            assert await one.fail("alice", HERE) > 0
        assert "hincrby" not in redis.calls()


async def test_a_blocked_address_cannot_fill_redis(redis: RedisServer) -> None:
    """It may ask whether a name is familiar there, but its attempts leave no keys."""
    limits = GuessLimits(user_address=3, address=4, user=50, window=100.0, key=b"k")
    async with pods(redis.port) as (one, _, _clock):
        for number in range(200):
            await one.fail(f"user-{number}", HERE, limits)
        size = len(one.defence._table)  # noqa: SLF001
    assert len(redis.lives()) == size == 1 + 5 * 2


async def test_an_outage_forgets_nothing(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Without Redis a pod counts by itself, from what it counted before; then together again."""
    caplog.set_level(logging.INFO, "sidecar.login")
    async with pods(redis.port) as (one, two, clock):
        assert [await one.fail("alice", HERE) for _ in range(2)] == [0, 0]
        assert [await one.fail("bob", HERE) for _ in range(4)][-1] > 0
        redis.kill()
        assert await one.fail("bob", HERE) > 0
        assert await one.fail("alice", HERE) == 0
        assert await one.fail("alice", HERE) > 0
        assert await two.fail("alice", HERE) == 0
        redis.start()
        clock.now += PAUSED
        assert await one.fail("alice", HERE) > 0
        assert await one.fail("carol", HERE) == 0
        assert await two.fail("alice", HERE) == 0  # the third that Redis has counted
        assert await two.fail("alice", HERE) > 0
    lines = [record.message for record in caplog.records if record.message.startswith("login att")]
    assert lines == [
        "login attempts are counted in this pod only",
        "login attempts are counted in this pod only",
        "login attempts are counted for all pods again",
        "login attempts are counted for all pods again",
    ]


async def test_a_silent_redis_delays_few(redis: RedisServer) -> None:
    """After one attempt has waited in vain, others do not wait for a while."""
    async with pods(redis.port, timeout=0.05) as (one, _, clock):
        await one.fail("alice", HERE)
        redis.freeze()
        operations = one.counters._link  # noqa: SLF001
        for _ in range(20):
            await one.fail("bob", HERE)
        assert "2 operations" in repr(operations)
        clock.now += PAUSED
        for _ in range(20):
            await one.fail("bob", THERE)
        assert "3 operations" in repr(operations)
        redis.thaw()


async def test_blocked_attempts_do_not_stop_the_counting(redis: RedisServer) -> None:
    """However many there are at once, few of them ask Redis; the others are just blocked."""
    async with pods(redis.port) as (one, two, _):
        counters = one.counters
        await counters.is_familiar(b"key")
        redis.freeze()
        asked = [asyncio.ensure_future(counters.is_familiar(b"key")) for _ in range(100)]
        await until(lambda: sum(each.done() for each in asked) == 100 - LOOKUPS)
        redis.thaw()
        answers = await asyncio.gather(*asked)
        assert (answers.count(False), answers.count(None)) == (LOOKUPS, 100 - LOOKUPS)
        assert await counters.is_familiar(b"key") is False
        assert [await one.fail("alice", HERE) for _ in range(3)] == [0, 0, 0]
        assert await two.fail("alice", HERE) > 0


async def test_a_user_of_redis_without_the_right(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the ACL lacks a command, each pod counts by itself, and the log says why."""
    redis.command("ACL", "SETUSER", "default", "-hincrby")
    async with pods(redis.port) as (one, two, _):
        assert [await one.fail("alice", HERE) for _ in range(3)] == [0, 0, 0]
        assert await one.fail("alice", HERE) > 0
        assert await two.fail("alice", HERE) == 0
    faults = {getattr(record, "fault", "") for record in caplog.records}
    assert "permission" in faults


# Whole sidecars


def shared(port: int, **changed: Any) -> dict[str, Any]:
    """The settings of a sidecar on this Redis, behind a proxy on loopback."""
    return {
        "session_store": "redis",
        "redis_host": "127.0.0.1",
        "redis_port": port,
        "redis_timeout": 1.0,
        "trusted_proxies": ["127.0.0.1/32"],
        **changed,
    }


async def guess(running: Stack, address: str, name: str = "alice", password: str = "x") -> Response:
    """Try to log in through a proxy that adds the client's address to what the client said."""
    return await running.ask(
        build(
            "POST",
            "/auth/login",
            "Content-Type: application/json",
            f"X-Forwarded-For: 10.9.8.7, {address}",
            body=f'{{"username": "{name}", "password": "{password}"}}'.encode(),
        )
    )


async def test_two_sidecars(upstream: ScriptedUpstream, redis: RedisServer) -> None:
    """A user is blocked at one address in both, logs in elsewhere, and no secret is in Redis."""
    settings = shared(redis.port, login_max_failures=4)
    async with stack(upstream.url, **settings) as one, stack(upstream.url, **settings) as two:
        turns = itertools.cycle((one, two))
        found = [(await guess(next(turns), HERE)).status for _ in range(5)]
        assert found == [401, 401, 401, 401, 429]
        right = await guess(next(turns), HERE, password="pw-alice")
        assert right.status == 429
        assert int(right.fields.one("retry-after")) > 0
        assert (await guess(next(turns), THERE, password="pw-alice")).status == 200
        sample = 'sidecar_logins_total{method="password",result="limited"}'
        assert await one.metric(sample) + await two.metric(sample) == 2


async def test_limits_without_redis_do_not_touch_the_breaker(upstream: ScriptedUpstream) -> None:
    """A Redis that only the limits cannot use makes no session store degraded."""
    with RedisServer() as server:
        server.command("ACL", "SETUSER", "default", "-hincrby")
        async with stack(upstream.url, **shared(server.port, login_max_failures=4)) as running:
            found = [(await guess(running, HERE)).status for _ in range(6)]
            assert found == [401, 401, 401, 401, 429, 429]
            tokens = await running.login()
            assert (await running.get("/", token=tokens.access)).status == 200
            assert await running.metric("sidecar_degraded") == 0
            assert running.sidecar.metrics.breaker_state == "closed"


async def test_limits_in_an_outage(upstream: ScriptedUpstream) -> None:
    """Without any Redis the limits hold in each pod, from its start on."""
    async with stack(upstream.url, **shared(free_port(), login_max_failures=4)) as running:
        found = [(await guess(running, HERE)).status for _ in range(6)]
        assert found == [401, 401, 401, 401, 429, 429]
        assert (await guess(running, THERE, password="pw-alice")).status == 200


async def test_a_reload_changes_the_limits(upstream: ScriptedUpstream) -> None:
    """A lower limit applies to the next attempt."""
    async with stack(upstream.url, trusted_proxies=["127.0.0.1/32"]) as running:
        assert [(await guess(running, HERE)).status for _ in range(3)] == [401] * 3
        changed = running.settings.__class__(
            **{
                **{n: getattr(running.settings, n) for n in running.settings.__struct_fields__},
                "login_max_failures": 3,
            }
        )
        await running.sidecar.reload(changed)
        assert (await guess(running, HERE)).status == 429


async def test_who_disconnects_leaves_the_queue(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guesser who does not wait for the answer costs no password check."""
    checked: list[str] = []
    gate = threading.Event()

    def slow(encoded: str, password: str) -> bool:
        checked.append(password)
        del encoded
        return gate.wait(10)

    monkeypatch.setattr(passwords, "verify", slow)
    async with stack(upstream.url, trusted_proxies=["127.0.0.1/32"]) as running:
        queue = running.sidecar._passwords._queue  # noqa: SLF001
        right = [
            asyncio.create_task(guess(running, THERE, name, "y")) for name in ("alice", "admin")
        ]
        await until(lambda: len(checked) == 2)
        gone = [asyncio.create_task(guess(running, HERE)) for _ in range(5)]
        await until(lambda: "5 wait" in repr(queue))
        for task in gone:
            task.cancel()
        await until(lambda: all(entry.place.is_gone() for entry in queue._waiting))  # noqa: SLF001
        gate.set()
        assert [answer.status for answer in await asyncio.gather(*right)] == [200, 200]
        logins = running.sidecar.metrics.logins
        await until(lambda: logins["password", "aborted"] == 5)
    assert checked == ["y", "y"]
