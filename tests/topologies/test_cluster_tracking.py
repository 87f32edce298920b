"""The near cache on a real Redis Cluster, while slots move and primaries change."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING

import pytest

from sidecar.auth.denylist import RevocableToken
from sidecar.auth.revocation import Revocation
from sidecar.errors import StoreUnavailable
from tests.peers.patience import until
from tests.peers.redis_server import valkey
from tests.peers.signed import NAMES
from tests.topologies.cluster import (
    SLOTS,
    Node,
    begin_move,
    cluster,
    end_move,
    joined,
    move_keys,
    owner_of,
    slot_of,
    where,
)
from tests.topologies.load import Load
from tests.topologies.pod import SOON, Pod

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sidecar.auth.session import Grant

LOGINS = 60


@pytest.fixture(scope="module")
def shared_nodes() -> Iterator[list[Node]]:
    """Three primaries, whose slots move back after each test."""
    with cluster() as made:
        yield made


@pytest.fixture
def nodes(shared_nodes: list[Node]) -> list[Node]:
    """Three primaries without keys."""
    for node in shared_nodes:
        node.admin.flushall()
    return shared_nodes


@pytest.fixture
async def pod(nodes: list[Node]) -> AsyncIterator[Pod]:
    """A pod with a coherent near cache."""
    async with Pod(**where(nodes)) as made:
        await made.coherent()
        yield made


@pytest.fixture
async def other(nodes: list[Node]) -> AsyncIterator[Pod]:
    """A second pod on the same cluster."""
    async with Pod(**where(nodes)) as made:
        yield made


def slot(grant: Grant) -> int:
    """The slot of a login's session."""
    return slot_of(NAMES.token(grant.session.id))


def asked(nodes: list[Node]) -> dict[str, int]:
    """How often each command was called, at all nodes, but for those of the cluster itself."""
    found: dict[str, int] = {}
    for node in nodes:
        for name, calls in node.calls().items():
            found[name] = found.get(name, 0) + calls
    return found


async def test_known_sessions_cost_nothing(pod: Pod, nodes: list[Node]) -> None:
    """In all slots, they are read once, then answered from the near cache."""
    grants = [await pod.login() for _ in range(LOGINS)]
    await pod.warm(*grants)
    for node in nodes:
        node.forget_calls()
    for _ in range(20):
        await pod.warm(*grants)
    # At rest, a pod only checks its connections.
    assert set(asked(nodes)) <= {"ping", "cluster|slots", "info", "config|resetstat"}
    assert len({owner_of(slot(grant), nodes).port for grant in grants}) == len(nodes)


async def test_a_logout_elsewhere(pod: Pod, other: Pod) -> None:
    """Every primary reports it."""
    grants = [await other.login() for _ in range(LOGINS)]
    await pod.warm(*grants)
    for grant in grants:
        assert await other.store.revoke_session(grant.session.sid)
        await pod.heard()
        assert pod.store.peek(grant.session.id) is None
    assert pod.store.near.flushes == 0


async def test_an_emptied_node(pod: Pod, nodes: list[Node]) -> None:
    """FLUSHALL at one primary invalidates every session; the others are read again."""
    grants = [await pod.login() for _ in range(LOGINS)]
    await pod.warm(*grants)
    nodes[0].admin.flushall()
    await pod.heard()
    assert not any(pod.store.peek(grant.session.id) for grant in grants)
    found = [await pod.store.get(grant.session.id) for grant in grants]
    assert 0 < found.count(None) < LOGINS


async def test_a_lost_connection(pod: Pod, nodes: list[Node]) -> None:
    """The loss of one of them ends the epoch."""
    grant = await pod.login()
    await pod.warm(grant)
    assert nodes[2].kill_tracking() >= 1
    await until(lambda: pod.store.near.flushes > 0, SOON)
    assert pod.store.peek(grant.session.id) is None
    await pod.coherent()
    await pod.warm(grant)


async def test_close_at_any_moment(nodes: list[Node]) -> None:
    """All connections are closed, even if the epoch is just ending by itself."""
    for turns in range(20):
        pod = Pod(**where(nodes))
        await pod.store.start()
        await pod.coherent()
        nodes[0].kill_tracking()
        for _ in range(turns):
            await asyncio.sleep(0)
        await pod.store.close()
        del pod
        gc.collect()  # a connection that is still open is a warning, and warnings are errors


async def test_a_frozen_primary(pod: Pod, nodes: list[Node]) -> None:
    """It is noticed, and the sessions of the others are certain again without it."""
    grants = [await pod.login() for _ in range(LOGINS)]
    await pod.warm(*grants)
    elsewhere = next(each for each in grants if owner_of(slot(each), nodes) is not nodes[0])
    nodes[0].freeze()
    try:
        await until(lambda: pod.store.near.flushes > 0, SOON)
        assert not any(pod.store.peek(grant.session.id) for grant in grants)
    finally:
        nodes[0].thaw()
    await until(lambda: not pod.store.degraded, SOON)
    joined(nodes, "cluster_state", "ok")
    await pod.coherent()
    await until(lambda: is_certain(pod, elsewhere), SOON)


async def is_certain(pod: Pod, grant: Grant) -> bool:
    """Whether a look-up makes this login certain."""
    try:
        await pod.store.get(grant.session.id)
    except StoreUnavailable:
        return False
    return pod.store.peek(grant.session.id) is not None


async def test_a_slot_on_its_way(pod: Pod, other: Pod, nodes: list[Node]) -> None:
    """While a slot moves, its moved keys are found but not certain; afterwards they are again."""
    grant = await other.login()
    await pod.warm(grant)
    number = slot(grant)
    source = owner_of(number, nodes)
    target = next(node for node in nodes if node is not source)
    begin_move(number, source, target)
    move_keys(number, source, target)
    await pod.heard()
    assert pod.store.peek(grant.session.id) is None
    assert await pod.store.get(grant.session.id) == grant.session
    assert pod.store.peek(grant.session.id) is None
    assert pod.store.last_known(grant.session.id) == grant.session
    end_move(number, source, target)
    await until(lambda: is_certain(pod, grant), SOON)
    assert await other.store.revoke_session(grant.session.sid)
    await pod.heard()
    assert pod.store.peek(grant.session.id) is None
    assert await pod.store.get(grant.session.id) is None


async def test_a_new_primary() -> None:
    """A node that joins is tracked as soon as it owns a slot. When it leaves, others are."""
    with cluster() as nodes, Node("--cluster-allow-replica-migration", "no") as joining:
        joining.join(nodes[0])
        joined([*nodes, joining], "cluster_known_nodes", "4")
        joined([*nodes, joining], "cluster_state", "ok")
        async with Pod(**where(nodes)) as pod, Pod(**where(nodes)) as other:
            await pod.coherent()
            grant = await other.login()
            await pod.warm(grant)
            number = slot(grant)
            source = owner_of(number, nodes)
            move(number, source, joining)
            await pod.heard()
            await until(lambda: is_certain(pod, grant), SOON)
            assert joining.tracking_ids()
            move(number, joining, source)
            await pod.heard()
            await until(lambda: is_certain(pod, grant), SOON)
            for node in nodes:
                node.command("CLUSTER", "FORGET", joining.name)
            joining.kill()
            await until(lambda: is_certain(pod, grant), SOON)
            assert await other.store.revoke_session(grant.session.sid)
            await pod.heard()
            assert pod.store.peek(grant.session.id) is None


def move(number: int, source: Node, target: Node) -> None:
    """Move a slot with its keys."""
    begin_move(number, source, target)
    move_keys(number, source, target)
    end_move(number, source, target)


async def test_a_slot_that_is_taken_away(pod: Pod, nodes: list[Node]) -> None:
    """If nobody moves the keys, no report says that they are gone: the new owner does."""
    grants = [await pod.login() for _ in range(LOGINS)]
    grant = grants[0]
    await pod.warm(*grants)  # the last one's slot does not move
    number = slot(grant)
    source = owner_of(number, nodes)
    target = next(node for node in nodes if node is not source)
    flushes = pod.store.near.flushes
    target.command("CLUSTER", "SETSLOT", str(number), "NODE", target.name)
    target.command("CLUSTER", "BUMPEPOCH")
    await until(lambda: pod.store.near.flushes > flushes, SOON)
    assert pod.store.peek(grant.session.id) is None
    await until(lambda: owner_of(number, nodes) is target, SOON)
    await pod.coherent()
    assert await pod.store.get(grant.session.id) is None


async def test_primaries_that_disagree(nodes: list[Node]) -> None:
    """While one of them does not know what it lost, or another what it got, nothing is certain."""
    number = next(each for each in range(SLOTS) if owner_of(each, nodes) is nodes[0])
    nodes[0].command("CLUSTER", "SETSLOT", str(number), "NODE", nodes[1].name)
    async with Pod(**where(nodes)) as pod:
        await until(lambda: pod.store.near.fault == "broken", SOON)
        assert not pod.store.near.coherent
        nodes[0].command("CLUSTER", "SETSLOT", str(number), "NODE", nodes[0].name)
        await pod.coherent()
        await pod.works()


async def test_a_revocation(pod: Pod, other: Pod) -> None:
    """That there is none is never certain: its slot could move before it is written."""
    revocable = RevocableToken("token", ("one", "two"), time.time(), time.time() + 60.0)
    assert await pod.store.revocations.get(revocable) == revocable.session
    assert pod.store.revocations.peek(revocable) is None
    assert not pod.store.reports_changes  # so open streams are checked from time to time
    revocation = Revocation(before=time.time() + 1.0, until=time.time() + 60.0)
    await other.store.revocations.revoke({"two": revocation})
    assert await pod.store.revocations.get(revocable) is None


@pytest.mark.parametrize("program", ["", "valkey"])
async def test_moving_slots_under_load(program: str) -> None:
    """Half of the slots move while sessions are used and logged out. No logout is missed."""
    with cluster(program=valkey() if program else "") as nodes:
        async with Pod(**where(nodes)) as pod, Pod(**where(nodes)) as other:
            await pod.coherent()
            grants = [await other.login() for _ in range(300)]
            await pod.warm(*grants)
            load = Load(pod, other, grants)
            running = asyncio.create_task(load.run())
            moved = 0
            for number in sorted({slot(grant) for grant in grants})[:150]:
                source = owner_of(number, nodes)
                target = nodes[(nodes.index(source) + 1) % 3]
                await asyncio.to_thread(move, number, source, target)
                moved += 1
            await until(lambda: load.ended >= 20, SOON)
            load.stop()
            await running
            assert load.wrong == []
            assert moved == 150
            await pod.coherent()
            alive = [each for each in grants if await pod.store.get(each.session.id)]
            assert len(alive) == len(grants) - load.ended
            await until(lambda: is_certain(pod, alive[0]), SOON)


async def test_slots_that_move_at_once() -> None:
    """Valkey moves many slots in one step. What both pods know of them is read again."""
    with cluster(program=valkey()) as nodes:
        async with Pod(**where(nodes)) as pod, Pod(**where(nodes)) as other:
            await pod.coherent()
            grants = [await other.login() for _ in range(LOGINS)]
            await pod.warm(*grants)
            mine = [each for each in grants if owner_of(slot(each), nodes) is nodes[0]]
            last = str(SLOTS // 3 - 1)
            words = ("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", "0", last, "NODE", nodes[1].name)
            nodes[0].command(*words)
            await until(lambda: owner_of(0, nodes) is nodes[1], SOON)
            await until(lambda: not any(pod.store.peek(each.session.id) for each in mine), SOON)
            await until(lambda: all_certain(pod, mine), SOON)
            for grant in mine:
                assert await other.store.revoke_session(grant.session.sid)
                await pod.heard()
                assert pod.store.peek(grant.session.id) is None


async def all_certain(pod: Pod, grants: list[Grant]) -> bool:
    """Whether look-ups make all of these logins certain."""
    return all([await is_certain(pod, grant) for grant in grants])


@pytest.mark.parametrize("planned", [True, False])
async def test_failover_under_load(*, planned: bool) -> None:
    """A replica takes over while sessions are used and logged out. No logout is missed."""
    with cluster(replicas=1) as nodes:
        async with Pod(**where(nodes)) as pod, Pod(**where(nodes)) as other:
            await pod.coherent()
            grants = [await other.login() for _ in range(300)]
            await pod.warm(*grants)
            mine = next(each for each in grants if owner_of(slot(each), nodes) is nodes[0])
            assert await asyncio.to_thread(nodes[0].admin.wait, 1, int(SOON * 1000)) == 1
            load = Load(pod, other, [each for each in grants if each is not mine])
            running = asyncio.create_task(load.run())
            flushes = pod.store.near.flushes
            if planned:
                nodes[3].command("CLUSTER", "FAILOVER")
            else:
                nodes[0].kill()
            await until(lambda: pod.store.near.flushes > flushes, SOON)
            left = nodes if planned else nodes[1:]
            await until(lambda: owner_of(slot(mine), nodes) is nodes[3], SOON)
            await until(lambda: not (pod.store.degraded or other.store.degraded), SOON)
            joined(left, "cluster_state", "ok")
            ended = load.ended
            await until(lambda: load.ended > ended + 10, SOON)
            load.stop()
            await running
            assert load.wrong == []
            await until(lambda: is_certain(pod, mine), SOON)
            assert await other.store.revoke_session(mine.session.sid)
            await pod.heard()
            assert pod.store.peek(mine.session.id) is None
