"""What counts as Redis being away: look-ups and probes, and no operation that is merely large."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from sidecar.errors import StoreUnavailable
from sidecar.sessions.redis.faults import Fault, RedisUnavailable
from sidecar.sessions.tiered.breaker import Breaker
from sidecar.sessions.tiered.health import RedisHealth
from sidecar.telemetry.metrics import Metrics
from tests.peers.clock import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

THRESHOLD = 3
SOON = 0.2  # seconds until a probe follows a doubt
CONTROL = [False, True]


class Redis:
    """Answers operations and probes with `fault`, or well if there is none."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        self.fault: Fault | None = None
        self.replay_fault: Fault | None = None
        self.probes = 0
        self._operations = 0
        self.health = RedisHealth(
            *(Breaker(threshold=THRESHOLD), self.metrics, self._probe, self._replay, lambda: None),
            clock=self.clock,
            monotonic=self.clock,
            sleep=self.clock.sleep,
            jitter=lambda: 0.0,
        )

    async def ask(self, fault: Fault | None) -> None:
        """An operation with this outcome."""
        self._operations += 1
        if fault is not None:
            raise RedisUnavailable(fault, self._operations)

    async def look_up(self, fault: Fault | None) -> None:
        """A look-up with this outcome; the caller copes."""
        with suppress(StoreUnavailable):
            await self.health.look_up(self.ask(fault))

    async def run(self, fault: Fault | None, *, writing: bool = False) -> None:
        """Any other operation with this outcome; the caller copes."""
        with suppress(StoreUnavailable):
            await self.health.run(self.ask(fault), writing=writing)

    async def _probe(self) -> None:
        self.probes += 1
        await self.ask(self.fault)

    async def _replay(self) -> bool:
        await self.ask(self.replay_fault)
        return True


@pytest.fixture
async def redis() -> AsyncIterator[Redis]:
    """A Redis that answers, and is watched."""
    made = Redis()
    await made.health.start()
    made.probes = 0
    yield made
    await made.health.close()


@pytest.mark.parametrize("writing", CONTROL)
@pytest.mark.parametrize("fault", [Fault.TIMEOUT, Fault.BUSY, Fault.BROKEN, Fault.PROTOCOL])
async def test_slow_listings_and_logins_count_for_nothing(
    redis: Redis, fault: Fault, *, writing: bool
) -> None:
    """However many of them fail, Redis stays in use if a probe is answered."""
    for _ in range(10):
        await redis.run(fault, writing=writing)
    assert redis.probes == 0
    await redis.clock.turn(SOON)
    assert redis.probes == 1
    assert not redis.health.degraded
    await redis.clock.turn(10.0)
    assert redis.probes == 1


@pytest.mark.parametrize("writing", CONTROL)
async def test_a_silent_redis_is_noticed_without_look_ups(redis: Redis, *, writing: bool) -> None:
    """After one operation without an answer, as many probes fail as it takes."""
    redis.fault = Fault.TIMEOUT
    await redis.run(Fault.TIMEOUT, writing=writing)
    await redis.clock.turn(THRESHOLD * SOON)
    assert redis.health.degraded
    assert not redis.health.confirmed


async def test_a_doubt_ends_with_an_answer(redis: Redis) -> None:
    """Failed probes count in a row: an answer between them starts the count again."""
    for _ in range(3):
        redis.fault = Fault.TIMEOUT
        await redis.run(Fault.TIMEOUT)
        await redis.clock.turn(0.25)
        redis.fault = None
        await redis.clock.turn(0.25)
    assert redis.probes == 3 * THRESHOLD
    assert not redis.health.degraded


async def test_look_ups_count(redis: Redis) -> None:
    """A silent Redis is not used any more after enough of them."""
    for _ in range(THRESHOLD):
        assert not redis.health.degraded
        await redis.look_up(Fault.TIMEOUT)
    assert redis.health.degraded
    assert redis.probes == 0


async def test_look_ups_that_had_no_time_count_for_nothing(redis: Redis) -> None:
    """If they waited for this process, a probe decides."""
    for _ in range(10):
        await redis.look_up(Fault.BUSY)
    await redis.clock.turn(SOON)
    assert redis.probes == 1
    assert not redis.health.degraded


async def test_a_probe_that_had_no_time_counts_for_nothing(redis: Redis) -> None:
    """It is repeated until it finds out something."""
    redis.fault = Fault.BUSY
    await redis.run(Fault.TIMEOUT)
    await redis.clock.turn(1.05)
    assert redis.probes == 10
    assert not redis.health.degraded
    redis.fault = Fault.TIMEOUT
    await redis.clock.turn(THRESHOLD * SOON)
    assert redis.health.degraded


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.AUTH, Fault.LOADING, Fault.MAX_CLIENTS])
async def test_a_fault_of_the_whole_server_counts_at_once(redis: Redis, fault: Fault) -> None:
    """No size of an operation can cause it, so any operation is evidence."""
    await redis.run(fault, writing=True)
    assert redis.health.degraded
    assert redis.health.confirmed is (fault is Fault.REFUSED)


async def test_a_forbidden_command_is_no_outage(redis: Redis) -> None:
    """An ACL that forbids listings must not let a user who lists logins take Redis out of use."""
    await redis.run(Fault.PERMISSION)
    await redis.clock.turn(SOON)
    assert not redis.health.degraded


async def test_a_forbidden_look_up_is_a_lasting_outage(redis: Redis) -> None:
    """It is the same for every probe, so Redis is not in use again until it is allowed."""
    redis.fault = Fault.PERMISSION
    await redis.look_up(Fault.PERMISSION)
    await redis.clock.turn(10.0)
    assert redis.health.degraded
    assert redis.metrics.transitions == {"degraded": 1, "shared": 0}
    redis.fault = None
    await redis.clock.turn(1.0)
    assert not redis.health.degraded


async def test_an_outage_is_confirmed_by_time_and_probes(redis: Redis) -> None:
    """Not before some seconds have passed, and until Redis is in use again."""
    redis.fault = Fault.TIMEOUT
    for _ in range(THRESHOLD):
        await redis.look_up(Fault.TIMEOUT)
    await redis.clock.turn(1.9)
    assert (redis.health.degraded, redis.health.confirmed) == (True, False)
    await redis.clock.turn(1.0)
    assert redis.health.confirmed
    redis.fault = None
    await redis.clock.turn(1.0)
    assert (redis.health.degraded, redis.health.confirmed) == (False, False)


async def test_an_outage_is_confirmed_by_a_closed_port(redis: Redis) -> None:
    """A probe that is refused confirms what a silent Redis began."""
    redis.fault = Fault.REFUSED
    for _ in range(THRESHOLD):
        await redis.look_up(Fault.TIMEOUT)
    assert not redis.health.confirmed
    await redis.clock.turn(0.3)
    assert redis.health.confirmed


async def test_a_slow_replay_confirms_nothing(redis: Redis) -> None:
    """Redis answers, but is not trusted before it has what it missed."""
    redis.replay_fault = Fault.TIMEOUT
    for _ in range(THRESHOLD):
        await redis.look_up(Fault.TIMEOUT)
    await redis.clock.turn(10.0)
    assert (redis.health.degraded, redis.health.confirmed) == (True, False)


async def test_a_probe_with_a_programming_error(
    redis: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, says nothing about Redis, and the next doubt is examined again."""

    async def fail(_: Fault | None) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(redis, "ask", fail)
    redis.health.failed(RedisUnavailable(Fault.TIMEOUT, 1))
    await redis.clock.turn(SOON)
    monkeypatch.undo()
    assert "probing Redis failed" in caplog.messages
    await redis.run(Fault.TIMEOUT)
    await redis.clock.turn(SOON)
    assert redis.probes == 2
    assert not redis.health.degraded


async def test_callers_of_one_operation_share_its_failure(redis: Redis) -> None:
    """A failed batch of look-ups counts once."""
    await asyncio.gather(
        *(redis.health.look_up(fail_with(RedisUnavailable(Fault.TIMEOUT, 7))) for _ in range(10)),
        return_exceptions=True,
    )
    assert not redis.health.degraded


async def fail_with(unavailable: RedisUnavailable) -> None:
    """An operation that fails."""
    raise unavailable
