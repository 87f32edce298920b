"""A simulated pod does to Redis what a sidecar does, and a real sidecar makes the writes."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pytest

from bench import polling, seeding, sidecar
from bench.children import Children
from bench.lab import Lab
from bench.scale.clients import NO_UPSTREAM, Users, known_of
from bench.scale.pod import PARALLEL, Pod, Server
from bench.scale.population import Known, PodCommands, known, logins
from bench.scale.tally import Tally
from tests.bench.monitored import Found, Monitor, counted, shapes
from tests.peers.fault_proxy import FaultProxy
from tests.peers.patience import until
from tests.peers.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

PATIENCE = 20.0
ATTEMPTS = 5  # on a busy machine, a silent connection may be given up
PINGS = 6  # to know their interval
TOLERANCE = 0.2  # seconds; the machine may be busy


@pytest.fixture
def lab(folder: Path) -> Iterator[Lab]:
    """A lab with a Redis."""
    with Children(folder) as children:
        lab = Lab(children)
        lab.start_redis()
        yield lab


@contextlib.asynccontextmanager
async def running(port: int, realm: str = "realm") -> AsyncIterator[Pod]:
    """A simulated pod that tracks Redis."""
    async with asyncio.TaskGroup() as group:
        pod = Pod(Server(port), PodCommands(realm), Tally(), group.create_task)
        task = group.create_task(pod.run())
        await pod.ready()
        yield pod
        task.cancel()


def pinged(found: Found) -> bool:
    """Whether the connection that is tracked has been pinged for a while."""
    return sum(commands.count("PING") > PINGS for commands in found.values()) == 1


def of_sidecar(lab: Lab, access_token: str, token_id: str) -> tuple[Found, float]:
    """What a sidecar sends that starts and gets requests, before and after a change."""
    look_up = f"MGET session:token:{token_id}"
    with Monitor(lab.redis_port) as monitor:
        started = sidecar.start(lab, "sidecar", redis=True, upstream_port=NO_UPSTREAM)
        monitor.wait_for(lambda found: counted(found, "PING") > 2)
        with closing(polling.Line(started.port)) as line:
            assert line.ask(polling.verify(access_token)) == polling.ALLOWED
            monitor.wait_for(lambda found: counted(found, "HSET") == 1)
            assert line.ask(polling.verify(access_token)) == polling.ALLOWED
            before = counted(monitor.found(), look_up)
            monitor.change(token_id)
            while counted(monitor.found(), look_up) == before:
                assert line.ask(polling.verify(access_token)) == polling.ALLOWED
        found, interval = monitor.wait_for(pinged), monitor.interval("PING")
    started.child.stop()
    return found, interval


async def of_pod(lab: Lab, realm: str, session: Known) -> tuple[Found, float]:
    """What a simulated pod sends in the same situation."""
    with Monitor(lab.redis_port) as monitor:
        async with running(lab.redis_port, realm) as pod:
            await pod.look_up([session])
            await pod.settled()
            assert pod.wanted([session]) == []
            monitor.change(session.token)
            await until(lambda: pod.wanted([session]) == [session], PATIENCE)
            await pod.look_up([session])
            found = await asyncio.to_thread(monitor.wait_for, pinged)
            return found, monitor.interval("PING")


async def undisturbed(
    attempt: Callable[[], Awaitable[tuple[Found, float]]],
) -> tuple[list[list[str]], float]:
    """The outcome of an attempt during which no connection was given up."""
    for _ in range(ATTEMPTS):
        found, interval = await attempt()
        if counted(found, "CLIENT TRACKING") == 1:
            return shapes(found), interval
    raise AssertionError(f"connections were given up in each of {ATTEMPTS} attempts")


async def test_a_pod_sends_what_a_sidecar_sends(lab: Lab) -> None:
    """Connections, handshakes, look-ups, last-seen times and pings are equal."""
    (pair,), mac = seeding.mint(lab, 1), seeding.mac_of(lab)
    seeding.insert(lab.redis_port, seeding.commands(pair.grant, mac))
    session = Known(pair.grant.session.id, pair.grant.session.sid)
    ask = partial(asyncio.to_thread, of_sidecar, lab, pair.access_token, session.token)
    expected, interval = await undisturbed(ask)
    found, own_interval = await undisturbed(partial(of_pod, lab, mac.realm, session))
    assert found == expected
    assert abs(own_interval - interval) < TOLERANCE


def test_writes_are_made_by_a_sidecar(lab: Lab) -> None:
    """Logins write sessions that a pod would look up; refreshes and logouts end them."""
    users, realm = Users(lab), seeding.mac_of(lab).realm
    with Monitor(lab.redis_port) as monitor:

        def wait_for(number: int, command: str) -> None:
            monitor.wait_for(lambda found: counted(found, command) == number)

        logins = users.log_in(2)
        refreshed, ended = known_of(logins)
        for each in (refreshed, ended):
            wait_for(1, f"SET session:token:{each.token}")
            wait_for(1, f"HGETALL session:sid:{realm}:{each.sid}")
        wait_for(2, "SET session:token:")
        users.refresh(logins[:1])
        wait_for(2, f"SET session:token:{refreshed.token}")  # again, with an end
        wait_for(4, "SET session:token:")
        users.log_out(logins[1:])
        monitor.wait_for(lambda found: counted(found, f"DEL session:token:{ended.token}") > 0)
        wait_for(0, f"DEL session:token:{refreshed.token}")


async def test_the_population_is_readable(lab: Lab) -> None:
    """A sidecar's store accepts the sessions that are written for the pods."""
    mac = seeding.mac_of(lab)
    seeding.insert(lab.redis_port, logins(5, 7, mac))
    async with running(lab.redis_port, mac.realm) as pod:
        await pod.look_up([known(5), known(6), known(7)])
        assert pod.cached == {known(5).token, known(6).token}


async def test_a_change_is_reported_and_timed() -> None:
    """A change ends a cached session, a flush all of them, and the receipt has a time."""
    with RedisServer() as server:
        server.admin.mset({f"session:token:{known(n).token}": "x" for n in range(3)})
        async with running(server.port) as pod:
            await pod.look_up([known(0), known(1), known(2)])
            receipt = pod.receipt_of(known(1).token)
            began = asyncio.get_running_loop().time()
            server.admin.delete(f"session:token:{known(1).token}")
            async with asyncio.timeout(PATIENCE):
                assert 0.0 <= await receipt - began < PATIENCE
            assert pod.cached == {known(0).token, known(2).token}
            server.admin.flushall()
            await until(lambda: not pod.cached, PATIENCE)
            assert (pod.tally.reads, pod.tally.invalidated, pod.tally.lost) == (3, 1, 0)


async def test_a_lost_connection_ends_the_epoch() -> None:
    """A pod whose tracked connection is cut trusts nothing that it has cached, and tracks again."""
    with RedisServer() as server:
        server.admin.set(f"session:token:{known(0).token}", "x")
        async with running(server.port) as pod:
            await pod.look_up([known(0)])
            assert server.kill_tracking() == 1
            await until(lambda: pod.tally.lost == 1, PATIENCE)
            assert not pod.cached
            await until(lambda: pod.tracking, PATIENCE)
            await pod.look_up([known(0)])
            assert pod.cached == {known(0).token}


async def test_a_pod_without_redis_asks_its_memory() -> None:
    """While Redis is away, requests do not reach it; afterwards, the pod tracks again."""
    with RedisServer() as server:
        async with running(server.port) as pod:
            server.kill()
            await until(lambda: not pod.tracking, PATIENCE)
            await pod.look_up([known(0)])
            assert pod.wanted([known(0)]) == []
            assert (pod.tally.local, pod.tally.refused) == (1, 1)
            server.start()
            await until(lambda: pod.tracking, PATIENCE)
            assert pod.wanted([known(0)]) == [known(0)]


async def test_many_look_ups_share_a_connection() -> None:
    """However many look-ups there are, a pod sends as many at once as a sidecar, on one connection.

    The others are the store's, and that of the administrator of the test.
    """
    with RedisServer() as server:
        async with running(server.port) as pod, asyncio.TaskGroup() as looking:
            server.freeze()
            for number in range(3 * PARALLEL):
                looking.create_task(pod.look_up([known(number)]))
            await until(lambda: f" {PARALLEL} look-ups" in repr(pod), PATIENCE)
            server.thaw()
        assert pod.tally.reads == 3 * PARALLEL
        assert pod.tally.untracked == 0


async def test_a_look_up_outlives_its_connection() -> None:
    """If its connection is cut, it is repeated on the other one, and its session is not cached."""
    with RedisServer() as server:
        server.admin.set(f"session:token:{known(0).token}", "x")
        async with FaultProxy(server.port) as proxy, running(proxy.port) as pod:
            proxy.lose, before = True, proxy.asked
            looking = asyncio.create_task(pod.look_up([known(0)], seen=False))
            await until(lambda: proxy.asked > before + len(known(0).token), PATIENCE)
            proxy.lose = False
            assert server.kill_tracking() == 1
            await looking
            assert (pod.tally.untracked, pod.tally.refused) == (1, 0)
            assert not pod.cached
