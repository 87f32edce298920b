"""Invalidation by a real Redis, also when connections are lost."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio import Connection

from sidecar.secret import Secret
from sidecar.sessions.memory.near import NearCache
from sidecar.sessions.redis.connect import RedisConfig, connect, tracked
from sidecar.sessions.redis.store import RedisStore
from sidecar.sessions.redis.tracking import NOT_TRACKING, TRACKING, Tracking
from sidecar.sessions.tiered.breaker import Breaker
from sidecar.sessions.tiered.store import TieredStore
from sidecar.telemetry.metrics import Metrics
from tests.peers.clock import Clock
from tests.peers.fault_proxy import FaultProxy
from tests.peers.patience import until
from tests.peers.refusing_proxy import RefusingProxy
from tests.peers.signed import MAC, NAMES
from tests.sessions.contract import new_login, successor_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sidecar.sessions.redis.tracked_reads import TrackedReads
    from tests.peers.redis_server import RedisServer

PATIENT = 2.0
SOON = 10.0  # seconds, at most, on a busy machine


class Pod:
    """A tiered store that tracks its Redis, on the machine's clock."""

    def __init__(self, port: int, **credentials: object) -> None:
        config = RedisConfig(host="127.0.0.1", port=port, timeout=PATIENT, **credentials)  # type: ignore[arg-type]
        self.metrics = Metrics()
        remote = RedisStore(connect(config), self.metrics, MAC, timeout=PATIENT)
        self.store = TieredStore(remote, Breaker(), self.metrics, connect=tracked(config))

    async def coherent(self) -> None:
        """Wait until the near cache is coherent."""
        await until(lambda: self.store.near.coherent, SOON)

    async def warm(self, token_id: str) -> None:
        """Read a session, which is then certain."""
        assert await self.store.get(token_id) is not None
        assert self.store.peek(token_id) is not None


@pytest.fixture
async def pod(server: RedisServer) -> AsyncIterator[Pod]:
    """A pod with a coherent near cache."""
    made = Pod(server.port)
    await made.store.start()
    await made.coherent()
    yield made
    await made.store.close()


@pytest.fixture
async def other(server: RedisServer) -> AsyncIterator[Pod]:
    """A second pod on the same Redis."""
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
    """It is read once, then answered from the near cache."""
    grant = new_login(now())
    assert await pod.store.write(grant)
    await pod.warm(grant.session.id)
    before = reads(server)
    for _ in range(100):
        assert pod.store.peek(grant.session.id) == grant.session
    assert reads(server) == before
    assert pod.metrics.lookups["near", "hit"] == 101


async def test_a_logout_elsewhere(pod: Pod, other: Pod) -> None:
    """It is reported at once, and the session is not kept for an outage either."""
    grant = new_login(now())
    assert await other.store.write(grant)
    await pod.warm(grant.session.id)
    assert await other.store.revoke_session(grant.session.sid)
    await until(lambda: pod.store.peek(grant.session.id) is None)
    assert pod.store.last_known(grant.session.id) is None
    assert await pod.store.get(grant.session.id) is None


async def test_a_refresh_elsewhere(pod: Pod, other: Pod) -> None:
    """The replaced token is no longer certain."""
    grant = new_login(now())
    assert await other.store.write(grant)
    await pod.warm(grant.session.id)
    successor = successor_of(grant, now())
    assert await other.store.write(successor)
    await until(lambda: pod.store.peek(grant.session.id) is None)
    assert await pod.store.get(grant.session.id) is None
    await pod.warm(successor.session.id)


async def test_a_login_elsewhere_is_not_reported(pod: Pod, other: Pod) -> None:
    """A sidecar pays only for the sessions it serves."""
    mine = new_login(now())
    assert await other.store.write(mine)
    await pod.warm(mine.session.id)
    for _ in range(100):
        assert await other.store.write(new_login(now()))
    assert await other.store.revoke_session(mine.session.sid)
    await until(lambda: pod.store.near.invalidations > 0)
    assert pod.store.near.invalidations == 1


async def test_an_emptied_redis(pod: Pod, server: RedisServer) -> None:
    """FLUSHALL invalidates every session."""
    grant = new_login(now())
    assert await pod.store.write(grant)
    await pod.warm(grant.session.id)
    server.admin.flushall()
    await until(lambda: pod.store.peek(grant.session.id) is None)
    assert pod.store.last_known(grant.session.id) is None


async def test_a_lost_connection(pod: Pod, server: RedisServer) -> None:
    """Nothing is certain until there is a new one; then sessions are read again."""
    grant = new_login(now())
    assert await pod.store.write(grant)
    await pod.warm(grant.session.id)
    assert server.kill_tracking() == 1
    await until(lambda: pod.store.near.flushes > 0, SOON)
    assert pod.store.peek(grant.session.id) is None
    assert pod.store.last_known(grant.session.id) == grant.session
    await pod.coherent()
    await pod.warm(grant.session.id)


async def test_pods_return_at_different_times(own_server: RedisServer) -> None:
    """After a loss, each pod waits for a random part of a delay, which grows from loss to loss."""
    config = RedisConfig(host="127.0.0.1", port=own_server.port, timeout=PATIENT)
    near = NearCache(time.time, time.monotonic, max_sessions=10, max_stale=60.0)
    reads: list[TrackedReads | None] = []
    slept: asyncio.Queue[float] = asyncio.Queue()
    tracking = Tracking(
        *(near, tracked(config), reads.append, NAMES),
        sleep=slept.put,
        jitter=iter([0.0, 0.5, 0.75, 0.0]).__next__,
    )
    tracking.resume()
    running = asyncio.create_task(tracking.run())
    for expected in (0.125, 0.375, 0.875, 1.0):
        await until(lambda: near.coherent, SOON)
        assert own_server.kill_tracking() == 1
        assert await slept.get() == expected
    running.cancel()
    await asyncio.wait([running])


@pytest.mark.parametrize("all_lost", [False, True])
async def test_a_look_up_just_after_the_loss(
    pod: Pod, server: RedisServer, *, all_lost: bool
) -> None:
    """It is answered, on a connection that is not tracked, and its session is not certain."""
    seen, unseen = new_login(now()), new_login(now())
    for grant in (seen, unseen):
        assert await pod.store.write(grant)
    await pod.warm(seen.session.id)
    assert server.kill_tracking() == 1
    if all_lost:
        server.admin.client_kill_filter(_type="normal", skipme=True)
    looking = [asyncio.ensure_future(pod.store.get(unseen.session.id))]
    await asyncio.sleep(0)
    looking.append(asyncio.ensure_future(pod.store.get("unknown")))  # needs another connection
    assert await asyncio.gather(*looking) == [unseen.session, None]
    assert pod.store.peek(unseen.session.id) is None
    await pod.coherent()
    await pod.warm(unseen.session.id)


async def test_a_silent_server(server: RedisServer) -> None:
    """Connections stay open but nothing arrives. This is noticed, and nothing is certain."""
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
    """A ping that was answered while the process was paused does not count as silence."""
    send, pauses = Connection.send_packed_command, 0

    async def held_up(self: Connection, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002
        nonlocal pauses
        await send(self, command, check_health)
        time.sleep(0.9)  # noqa: ASYNC251  (blocks the loop longer than the limit of silence)
        pauses += 1

    monkeypatch.setattr(Connection, "send_packed_command", held_up)
    await until(lambda: pauses == 3, SOON)
    monkeypatch.undo()
    await asyncio.sleep(0)
    assert pod.store.near.flushes == 0
    assert pod.store.near.coherent


async def test_a_restarted_server(own_server: RedisServer) -> None:
    """It is tracked again as soon as it is in use again."""
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


async def test_a_user_without_the_permission(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Every request asks Redis; one log line and the status say why."""
    server.admin.acl_setuser(
        "untold", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all", "-client"]
    )
    with caplog.at_level("INFO", "sidecar.sessions"):
        pod = Pod(server.port, username="untold", password=Secret("pw"))
        await works_without(pod, "permission", caplog)
    server.admin.acl_deluser("untold")


@pytest.mark.parametrize(
    "refuse",
    [
        pytest.param(
            lambda words: "ERR unknown command 'HELLO'" if words[0] == "HELLO" else "", id="resp3"
        ),
        pytest.param(
            lambda words: "NOPROTO unsupported protocol version" if words[0] == "HELLO" else "",
            id="this-version",
        ),
        pytest.param(
            lambda words: "ERR unknown subcommand" if words[:2] == ["CLIENT", "TRACKING"] else "",
            id="tracking",
        ),
    ],
)
async def test_a_server_that_refuses(
    server: RedisServer, caplog: pytest.LogCaptureFixture, refuse: Callable[[list[str]], str]
) -> None:
    """Without RESP3 or tracking, every request asks Redis; log and status say why."""
    async with RefusingProxy(server.port, refuse) as proxy:
        with caplog.at_level("INFO", "sidecar.sessions"):
            await works_without(Pod(proxy.port), "unsupported", caplog)
        assert proxy.refused == 1  # the next attempt is half a minute later


async def works_without(pod: Pod, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    """Log in and look up without a near cache, which is off because of this fault."""
    await pod.store.start()
    grant = new_login(now())
    assert await pod.store.write(grant)
    await until(lambda: NOT_TRACKING in caplog.messages, SOON)
    (record,) = [line for line in caplog.records if line.message == NOT_TRACKING]
    assert record.__dict__["fault"] == fault
    assert TRACKING not in caplog.messages
    assert pod.store.describe()["near_cache"]["fault"] == fault
    assert await pod.store.get(grant.session.id) == grant.session
    assert pod.store.peek(grant.session.id) is None
    assert not pod.store.degraded
    assert not pod.store.reports_changes
    await pod.store.close()


async def test_a_server_that_refuses_redirection(server: RedisServer) -> None:
    """Redis Enterprise and Dragonfly have no REDIRECT and no channel; the near cache works."""

    def refuse(words: list[str]) -> str:
        return "ERR refused" if words[0] == "SUBSCRIBE" or "REDIRECT" in words else ""

    async with RefusingProxy(server.port, refuse) as proxy:
        pod = Pod(proxy.port)
        await pod.store.start()
        await pod.coherent()
        grant = new_login(now())
        assert await pod.store.write(grant)
        await pod.warm(grant.session.id)
        assert await pod.store.revoke_session(grant.session.sid)
        await until(lambda: pod.store.near.invalidations > 0)
        assert pod.store.describe()["near_cache"]["fault"] == ""
        assert proxy.refused == 0
        await pod.store.close()


async def test_many_logouts_under_load(pod: Pod, other: Pod, server: RedisServer) -> None:
    """Each takes effect, whatever look-ups are in flight."""
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
    tokens = [NAMES.token(grant.session.id) for grant in grants]
    await until(lambda: server.admin.exists(*tokens) == 0)  # where time runs out, by the journal
    for grant in grants:
        await until(lambda token=grant.session.id: pod.store.peek(token) is None)  # type: ignore[misc]
        assert await pod.store.get(grant.session.id) is None


def now() -> float:
    """The time by the machine's clock, which these stores use."""
    return time.time()


async def on_clock(server: RedisServer, clock: Clock) -> tuple[RedisStore, TieredStore]:
    """A Redis store, and a tiered store that tracks the same Redis, both on this clock."""
    config = RedisConfig(host="127.0.0.1", port=server.port, timeout=PATIENT)
    metrics = Metrics()
    remote = RedisStore(connect(config), metrics, MAC, clock=clock, timeout=PATIENT)
    store = TieredStore(
        *(remote, Breaker(), metrics), clock=clock, sleep=clock.sleep, connect=tracked(config)
    )
    await store.start()
    await until(lambda: store.near.coherent, SOON)
    return remote, store


async def test_use_of_the_near_cache_counts_as_seen(server: RedisServer) -> None:
    """The listing shows the time, although no look-up reached Redis."""
    clock = Clock(now())
    remote, store = await on_clock(server, clock)
    grant = new_login(clock.now)
    assert await store.write(grant)
    assert await store.get(grant.session.id) is not None
    clock.advance(400.0)
    assert store.peek(grant.session.id) is not None
    await remote.touch(store.near.used_since(clock.now - 1.0))
    (info,) = await store.sessions_of("alice")
    assert info.seen == clock.now
    await store.close()
