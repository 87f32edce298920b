"""Redis Cluster: three real masters and a replica, and a failover."""

from __future__ import annotations

import asyncio
import logging
import re
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from sidecar.app.build import make_store
from sidecar.errors import StoreUnavailable
from sidecar.secret import Secret
from sidecar.sessions.redis.scanner import SessionScanner
from sidecar.sessions.redis.tracking import TRACKING
from sidecar.sessions.tiered.store import TieredStore
from sidecar.settings import settings_from
from sidecar.telemetry.metrics import Metrics
from tests.peers.patience import until
from tests.peers.signed import MAC
from tests.sessions.contract import new_login, successor_of
from tests.topologies.cluster import cluster, where
from tests.topologies.pod import SOON, Pod

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.auth.session import Grant
    from tests.topologies.cluster import Node

LOGINS = 60


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Node]]:
    """Three primaries, and a replica of the first."""
    with cluster(replicas=1) as made:
        yield made


async def test_every_operation(nodes: list[Node]) -> None:
    """Logins in all slots are found, refreshed, listed and ended."""
    async with Pod(**where(nodes)) as pod:
        await pod.works()
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
    """A cluster URL makes a store with a near cache."""
    url = where(nodes)["url"].reveal()
    secrets = {
        "JWT_SECRET": "access-secret-0123456789abcdefghijklmnop",
        "REFRESH_SECRET": "refresh-secret-0123456789abcdefghijklmnop",
    }
    with caplog.at_level(logging.INFO):
        store = make_store(settings_from(env={**secrets, "REDIS_URL": url}), Metrics(), MAC, None)
        assert isinstance(store, TieredStore)
        await store.start()
        await until(lambda: store.near.coherent, SOON)
    assert caplog.messages == [TRACKING]
    assert await store.write(new_login(time.time()))
    assert not store.degraded
    await store.close()


async def test_a_user_that_may_do_no_more_than_needed(nodes: list[Node]) -> None:
    """The manual's permissions are enough, with what it adds for a cluster."""
    user, for_cluster = permissions(Path("docs/operating.md").read_text())
    for node in nodes:
        node.command("ACL", "SETUSER", "sidecar", *user, *for_cluster)
        node.command("ACL", "LOG", "RESET")
    async with Pod(username="sidecar", password=Secret("pw"), **where(nodes)) as pod:
        await pod.works()
        grant = await pod.login()
        assert await rotated(pod, grant)
        assert await pod.store.revoke_user(grant.session.sub) > 0
        assert not pod.store.degraded
    for node in nodes:
        assert node.command("ACL", "LOG") == []


def permissions(manual: str) -> tuple[list[str], list[str]]:
    """The manual's rights of the sidecar's user, and what it says that a cluster needs besides."""
    command = manual[manual.index("redis ACL SETUSER sidecar") :].partition("```")[0]
    words = shlex.split(command.replace("\\\n", " "))[4:]
    rights = [">pw" if word.startswith(">") else word for word in words]
    (also,) = re.findall(r"On a Redis Cluster[^`]* add\s+`([^`]*)`", manual)
    return rights, also.split()


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
        await pod.works()


async def seen(pod: Pod, grant: Grant) -> bool:
    """Whether Redis returns this session. False also if it cannot be asked."""
    try:
        return await pod.store.get(grant.session.id) == grant.session
    except StoreUnavailable:
        return False
