"""Redis tells of what changes: with a real server, and connections that are lost."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from redis.asyncio.client import PubSub

from sidecar.secret import Secret
from sidecar.sessions.redis.connect import RedisConfig, connect, tracked
from sidecar.sessions.redis.keyspace import TOKEN
from sidecar.sessions.redis.store import RedisStore
from sidecar.sessions.redis.tracking import NOT_TRACKING, TRACKING
from sidecar.sessions.tiered.breaker import Breaker
from sidecar.sessions.tiered.store import TieredStore
from sidecar.telemetry.metrics import Metrics
from tests.peers.clock import Clock
from tests.peers.fault_proxy import FaultProxy
from tests.peers.patience import until
from tests.sessions.contract import new_login, successor_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.peers.redis_server import RedisServer

PATIENT = 2.0
SOON = 10.0  # seconds, at most, on a busy machine


class Pod:
    """A tiered store that follows its Redis, on the machine's own clock."""

    def __init__(self, port: int, **credentials: object) -> None:
        config = RedisConfig(host="127.0.0.1", port=port, timeout=PATIENT, **credentials)  # type: ignore[arg-type]
        self.metrics = Metrics()
        remote = RedisStore(connect(config), self.metrics, timeout=PATIENT)
        self.store = TieredStore(remote, Breaker(), self.metrics, connect=tracked(config))

    async def coherent(self) -> None:
        """Wait until it is."""
        await until(lambda: self.store.near.coherent, SOON)

    async def warm(self, token_id: str) -> None:
        """Have it read a session, and keep it."""
        assert await self.store.get(token_id) is not None
        assert self.store.peek(token_id) is not None


@pytest.fixture
async def pod(server: RedisServer) -> AsyncIterator[Pod]:
    """One that is coherent."""
    made = Pod(server.port)
    await made.store.start()
    await made.coherent()
    yield made
    await made.store.close()


@pytest.fixture
async def other(server: RedisServer) -> AsyncIterator[Pod]:
    """Another one."""
    made = Pod(server.port)
    await made.store.start()
    yield made
    await made.store.close()


def reads(server: RedisServer) -> int:
    """How many look-ups the server has answered."""
    stats = server.admin.info("commandstats")
    assert isinstance(stats, dict)
    return int(stats.get("cmdstat_mget", {"calls": 0})["calls"])


async def test_a_known_session_costs_redis_nothing(pod: Pod, server: RedisServer) -> None:
    """It is read once."""
    grant = new_login(now())
    assert await pod.store.write(grant)
    await pod.warm(grant.session.id)
    before = reads(server)
    for _ in range(100):
        assert pod.store.peek(grant.session.id) == grant.session
    assert reads(server) == before
    assert pod.metrics.lookups["near", "hit"] == 101


async def test_a_logout_elsewhere(pod: Pod, other: Pod) -> None:
    """It is told of at once, and the session is gone also for an outage."""
    grant = new_login(now())
    assert await other.store.write(grant)
    await pod.warm(grant.session.id)
    assert await other.store.revoke_session(grant.session.sid)
    await until(lambda: pod.store.peek(grant.session.id) is None)
    assert pod.store.last_known(grant.session.id) is None
    assert await pod.store.get(grant.session.id) is None


async def test_a_refresh_elsewhere(pod: Pod, other: Pod) -> None:
    """The token that was replaced is no longer known."""
    grant = new_login(now())
    assert await other.store.write(grant)
    await pod.warm(grant.session.id)
    successor = successor_of(grant, now())
    assert await other.store.write(successor)
    await until(lambda: pod.store.peek(grant.session.id) is None)
    assert await pod.store.get(grant.session.id) is None
    await pod.warm(successor.session.id)


async def test_a_login_elsewhere_tells_nobody(pod: Pod, other: Pod) -> None:
    """A sidecar pays for the sessions it serves."""
    mine = new_login(now())
    assert await other.store.write(mine)
    await pod.warm(mine.session.id)
    for _ in range(100):
        assert await other.store.write(new_login(now()))
    assert await other.store.revoke_session(mine.session.sid)
    await until(lambda: pod.store.near.invalidations > 0)
    assert pod.store.near.invalidations == 1


async def test_an_emptied_redis(pod: Pod, server: RedisServer) -> None:
    """FLUSHALL is a change of everything."""
    grant = new_login(now())
    assert await pod.store.write(grant)
    await pod.warm(grant.session.id)
    server.admin.flushall()
    await until(lambda: pod.store.peek(grant.session.id) is None)
    assert pod.store.last_known(grant.session.id) is None


async def test_a_lost_link(pod: Pod, server: RedisServer) -> None:
    """Nothing is certain until there is another; then it is read again."""
    grant = new_login(now())
    assert await pod.store.write(grant)
    await pod.warm(grant.session.id)
    assert server.admin.client_kill_filter(_type="pubsub") == 1
    await until(lambda: pod.store.near.flushes > 0, SOON)
    assert pod.store.peek(grant.session.id) is None
    assert pod.store.last_known(grant.session.id) == grant.session
    await pod.coherent()
    await pod.warm(grant.session.id)


async def test_a_lost_reader(pod: Pod, server: RedisServer) -> None:
    """Of what it had read nothing would be told any more."""
    grant = new_login(now())
    assert await pod.store.write(grant)
    await pod.warm(grant.session.id)
    server.admin.client_kill_filter(_type="normal", skipme=True)
    await until(lambda: pod.store.near.flushes > 0, SOON)
    assert pod.store.peek(grant.session.id) is None
    await pod.coherent()
    await pod.warm(grant.session.id)


async def test_a_silent_server(server: RedisServer) -> None:
    """Its connections stand, but nothing comes: that is noticed, and nothing is certain."""
    async with FaultProxy(server.port) as proxy:
        pod = Pod(proxy.port)
        await pod.store.start()
        await pod.coherent()
        grant = new_login(now())
        assert await pod.store.write(grant)
        await pod.warm(grant.session.id)
        proxy.stall()
        await until(lambda: not pod.store.near.coherent, SOON)
        assert pod.store.peek(grant.session.id) is None
        proxy.flow()
        await pod.coherent()
        await pod.store.close()


async def test_a_pause_of_this_process(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that came while nobody could read it is no silence."""
    ping, pauses = PubSub.ping, 0

    async def held_up(self: PubSub) -> None:
        nonlocal pauses
        await ping(self)
        time.sleep(0.7)  # noqa: ASYNC251  (the loop is to stand still, longer than a silence may last)
        pauses += 1

    monkeypatch.setattr(PubSub, "ping", held_up)
    await until(lambda: pauses == 3, SOON)
    await asyncio.sleep(0)
    assert pod.store.near.flushes == 0
    assert pod.store.near.coherent


async def test_a_server_that_goes_and_comes(own_server: RedisServer) -> None:
    """It is followed again as soon as it is used again."""
    pod = Pod(own_server.port)
    await pod.store.start()
    await pod.coherent()
    grant = new_login(now())
    assert await pod.store.write(grant)
    await pod.warm(grant.session.id)
    own_server.kill()
    await until(lambda: not pod.store.near.coherent, SOON)
    own_server.start()
    await pod.coherent()
    await pod.warm(grant.session.id)
    assert await pod.store.revoke_session(grant.session.sid)
    await pod.store.close()


async def test_a_server_that_will_not(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A user without the right to it: all works, by asking, and a line says so."""
    server.admin.acl_setuser(
        "untold", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all", "-client"]
    )
    with caplog.at_level("INFO", "sidecar.sessions"):
        pod = Pod(server.port, username="untold", password=Secret("pw"))
        await pod.store.start()
        grant = new_login(now())
        assert await pod.store.write(grant)
        await until(lambda: NOT_TRACKING in caplog.messages, SOON)
    (record,) = [one for one in caplog.records if one.message == NOT_TRACKING]
    assert record.__dict__["fault"] == "permission"
    assert TRACKING not in caplog.messages
    assert await pod.store.get(grant.session.id) == grant.session
    assert pod.store.peek(grant.session.id) is None
    assert not pod.store.degraded
    await pod.store.close()
    server.admin.acl_deluser("untold")


async def test_many_logouts_under_load(pod: Pod, other: Pod, server: RedisServer) -> None:
    """Each is seen, whatever is being read at that moment."""
    grants = [new_login(now()) for _ in range(200)]
    for grant in grants:
        assert await other.store.write(grant)

    async def ask(token_id: str) -> None:
        for _ in range(20):
            await pod.store.get(token_id)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for grant in grants:
            group.create_task(ask(grant.session.id))
            group.create_task(other.store.revoke_session(grant.session.sid))
    assert server.admin.exists(*(TOKEN + grant.session.id.encode() for grant in grants)) == 0
    for grant in grants:
        await until(lambda token=grant.session.id: pod.store.peek(token) is None)  # type: ignore[misc]
        assert await pod.store.get(grant.session.id) is None


def now() -> float:
    """The time of the machine, which these stores go by."""
    return time.time()


async def by_hand(server: RedisServer, clock: Clock) -> tuple[RedisStore, TieredStore]:
    """A shared store, and one that follows its Redis: both go by this clock."""
    config = RedisConfig(host="127.0.0.1", port=server.port, timeout=PATIENT)
    metrics = Metrics()
    remote = RedisStore(connect(config), metrics, clock=clock, timeout=PATIENT)
    store = TieredStore(
        *(remote, Breaker(), metrics), clock=clock, sleep=clock.sleep, connect=tracked(config)
    )
    await store.start()
    await until(lambda: store.near.coherent, SOON)
    return remote, store


async def test_closing_waits_for_nothing(server: RedisServer) -> None:
    """Nobody looks anything up any more for whom what is being read would have to end."""
    clock = Clock(now())
    _, store = await by_hand(server, clock)
    closing = asyncio.create_task(store.close())
    try:
        await until(closing.done, SOON)
    finally:
        await clock.turn(1.0)
        await closing


async def test_a_login_that_is_let_in_without_asking_is_seen(server: RedisServer) -> None:
    """Its listing says when, although Redis was not asked for it."""
    clock = Clock(now())
    remote, store = await by_hand(server, clock)
    grant = new_login(clock.now)
    assert await store.write(grant)
    assert await store.get(grant.session.id) is not None
    clock.advance(400.0)
    assert store.peek(grant.session.id) is not None
    await remote.touch(store.near.used_since(clock.now - 1.0))
    (info,) = await store.sessions_of("alice")
    assert info.seen == clock.now
    await store.close()
