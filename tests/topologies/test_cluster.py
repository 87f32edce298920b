"""Redis Cluster: three real masters and a replica, and a failover."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from sidecar.app.build import make_store
from sidecar.errors import StoreUnavailable
from sidecar.secret import Secret
from sidecar.sessions.redis.scanner import SessionScanner
from sidecar.sessions.redis.tracking import NOT_TRACKING
from sidecar.sessions.tiered.store import TieredStore
from sidecar.settings import settings_from
from sidecar.telemetry.metrics import Metrics
from tests.peers.patience import until
from tests.peers.redis_server import RedisServer, free_port
from tests.peers.signed import MAC
from tests.sessions.contract import new_login, successor_of
from tests.topologies.pod import SOON, Pod

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.auth.session import Grant

SLOTS = 16384
LOGINS = 60


class Node(RedisServer):
    """A server in cluster mode."""

    def __init__(self) -> None:
        self.bus = free_port()
        super().__init__(
            *("--cluster-enabled", "yes", "--cluster-port", str(self.bus)),
            *("--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0"),
            *("--repl-diskless-sync-delay", "0"),
        )

    def state(self) -> dict[str, str]:
        """The node's CLUSTER INFO."""
        answer = self.command("CLUSTER", "INFO")
        assert isinstance(answer, bytes)
        return dict(line.split(":", 1) for line in answer.decode().splitlines())


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Node]]:
    """Three masters, each with a third of the slots, and a replica of the first."""
    with ExitStack() as running:
        made = [running.enter_context(Node()) for _ in range(4)]
        for number, node in enumerate(made[:3]):
            first, last = number * SLOTS // 3, (number + 1) * SLOTS // 3 - 1
            node.command("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
            node.command("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        for node in made[1:]:
            made[0].command("CLUSTER", "MEET", "127.0.0.1", str(node.port), str(node.bus))
        joined(made, "cluster_known_nodes", "4")
        name = made[0].command("CLUSTER", "MYID")
        made[3].command("CLUSTER", "REPLICATE", bytes(name).decode())  # type: ignore[call-overload]
        joined(made, "cluster_state", "ok")
        yield made


def joined(nodes: list[Node], name: str, value: str) -> None:
    """Wait until every node's CLUSTER INFO has this value."""
    end = time.monotonic() + SOON
    while not all(node.state()[name] == value for node in nodes):
        assert time.monotonic() < end
        time.sleep(0.05)


def where(nodes: list[Node]) -> dict[str, Secret]:
    """A configuration with the URL of two nodes."""
    return {"url": Secret(f"redis+cluster://127.0.0.1:{nodes[1].port},127.0.0.1:{nodes[2].port}")}


async def test_every_operation(nodes: list[Node]) -> None:
    """Logins in all slots are found, refreshed, listed and ended."""
    async with Pod(**where(nodes)) as pod:
        await pod.works(near=False)
        assert not pod.store.near.coherent
        grants = [new_login(time.time(), f"user{number % 3}") for number in range(LOGINS)]
        assert all(await asyncio.gather(*map(pod.store.write, grants)))
        found = await asyncio.gather(*(pod.store.get(each.session.id) for each in grants))
        assert found == [each.session for each in grants]
        assert await rotated(pod, grants[0])
        assert len(await pod.store.sessions_of("user0")) == LOGINS // 3
        assert await pod.store.revoke_user("user0") == LOGINS // 3
        left = [each.session for each in grants if each.session.sub != "user0"]
        found = await asyncio.gather(*(pod.store.get(each.session.id) for each in grants))
        assert [session for session in found if session is not None] == left
        listed = [info.sid async for info in SessionScanner(pod.client, pod.remote.keys).logins()]
        assert sorted(listed) == sorted(session.sid for session in left)
        for user in ("user1", "user2"):
            await pod.store.revoke_user(user)
        assert not pod.store.degraded
    assert not any(node.admin.keys("session:token:*") for node in nodes)


async def test_a_store_from_settings(nodes: list[Node], caplog: pytest.LogCaptureFixture) -> None:
    """A cluster URL makes a store without a near cache, which is logged."""
    url = where(nodes)["url"].reveal()
    secrets = {
        "JWT_SECRET": "access-secret-0123456789abcdefghijklmnop",
        "REFRESH_SECRET": "refresh-secret-0123456789abcdefghijklmnop",
    }
    with caplog.at_level(logging.INFO):
        store = make_store(settings_from(env={**secrets, "REDIS_URL": url}), Metrics(), MAC, None)
    assert caplog.messages == [NOT_TRACKING]
    assert isinstance(store, TieredStore)
    await store.start()
    assert await store.write(new_login(time.time()))
    assert not store.degraded
    await store.close()


async def rotated(pod: Pod, grant: Grant) -> bool:
    """Refresh a login. Of two claims one wins, and the old token ends."""
    assert grant.refresh_id is not None
    assert grant.refresh is not None
    used = replace(grant.refresh, used_at=time.time())
    claims = await asyncio.gather(
        *(pod.store.claim_refresh(grant.refresh_id, used) for _ in range(2))
    )
    won = [record is not None and record.used_at is None for record in claims]
    assert sorted(won) == [False, True]
    assert await pod.store.write(successor_of(grant, time.time()))
    return await pod.store.get(grant.session.id) is None


async def test_failover(nodes: list[Node]) -> None:
    """The replica takes over. Known sessions stay known throughout."""
    async with Pod(**where(nodes)) as pod:
        grants = [await pod.login() for _ in range(20)]
        for grant in grants:
            assert await pod.store.get(grant.session.id) == grant.session
        assert nodes[0].admin.wait(1, int(SOON * 1000)) == 1
        nodes[0].kill()
        end = time.monotonic() + SOON
        complete = False
        while not complete:
            assert time.monotonic() < end
            await asyncio.sleep(0.05)  # between two attempts
            found = [await seen(pod, grant) for grant in grants]
            assert all(pod.store.last_known(grant.session.id) for grant in grants)
            complete = all(found)
        await until(lambda: not pod.store.degraded, SOON)
        await pod.works(near=False)


async def seen(pod: Pod, grant: Grant) -> bool:
    """Whether Redis returns this session. False also if it cannot be asked."""
    try:
        return await pod.store.get(grant.session.id) == grant.session
    except StoreUnavailable:
        return False
