"""Sentinel: three real sentinels, a master and a replica, and a failover."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import pytest
import redis

from sidecar.secret import Secret
from sidecar.settings import read_secret
from tests.peers.patience import until
from tests.peers.redis_server import RedisServer, free_port
from tests.topologies.load import Load
from tests.topologies.pod import SOON, Pod
from tests.topologies.rotating import FIRST, SECOND, Rotation, busy, load
from tests.topologies.sentinels import ready, running_sentinels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USERS = """
user default off
user watcher on >sentinel-one -@all +sentinel|masters
user peer on >sentinel-peer &* +@all
sentinel sentinel-user peer
sentinel sentinel-pass sentinel-peer
"""


@pytest.fixture
def master() -> Iterator[RedisServer]:
    """The master, which the test kills."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def sentinels(master: RedisServer, tmp_path: Path) -> Iterator[list[int]]:
    """The ports of three sentinels that watch the master and its replica."""
    with running_sentinels(master, tmp_path) as ports:
        yield ports


async def test_failover(master: RedisServer, sentinels: list[int]) -> None:
    """The sidecar falls back to memory, then uses the replica that took over."""
    for port in sentinels:
        await until(lambda port=port: ready(port), SOON)  # type: ignore[misc]
    hosts = ",".join(f"127.0.0.1:{port}" for port in sentinels)
    async with Pod(url=Secret(f"redis+sentinel://{hosts}/mymaster/0")) as pod:
        await pod.works()
        before = await pod.login()
        assert master.admin.wait(1, int(SOON * 1000)) == 1
        master.kill()
        during = await pod.login()
        await until(lambda: pod.store.degraded, SOON)
        assert pod.store.last_known(before.session.id) == before.session
        assert pod.store.last_known(during.session.id) == during.session
        await until(lambda: not pod.store.degraded, 2 * SOON)
        await pod.works()
        assert await pod.store.get(before.session.id) == before.session


async def test_sentinels_with_a_user_of_their_own(master: RedisServer, tmp_path: Path) -> None:
    """Sentinels and servers have different users, and the passwords of both can change."""
    rotation = Rotation(tmp_path, master)
    await rotation.credentials.renew()
    file = tmp_path / "sentinel-password"
    file.write_text("sentinel-one\n")
    with running_sentinels(master, tmp_path, USERS) as ports:
        for port in ports:
            await until(partial(ready, port, "peer", "sentinel-peer"), SOON)
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        where = {
            "url": Secret(f"redis+sentinel://{hosts}/mymaster"),
            "credentials": rotation.credentials,
            "sentinel_username": "watcher",
        }
        async with Pod(**where, sentinel_password=Secret("sentinel-two")) as pod:
            assert pod.store.degraded, "the password is wrong"
        async with Pod(**where, sentinel_password=Secret("sentinel-one")) as pod:
            await pod.works()
        read = partial(read_secret, str(file))
        async with Pod(**where, read_sentinel_password=read) as pod:
            await busy(pod)
            before = rotation.ids()
            async with load(pod):
                await rotation.rotate(FIRST, SECOND)
            assert before <= rotation.ids()
            for port in ports:
                with redis.Redis(port=port, username="peer", password="sentinel-peer") as client:
                    for change in (">sentinel-two", "<sentinel-one"):
                        client.execute_command("ACL", "SETUSER", "watcher", change)
                    client.client_kill_filter(_type="normal", skipme=True)
            file.write_text("sentinel-two\n")
            flushes = pod.store.near.flushes
            master.admin.client_kill_filter(_type="normal", skipme=True)
            await until(lambda: pod.store.near.flushes > flushes, SOON)
            await until(lambda: not pod.store.degraded, SOON)
            await pod.works()
            shown = repr([pod.client, pod.client.connection_pool, pod.store, pod.remote])
            assert "sentinel-" not in shown


async def test_unreachable_sentinels() -> None:
    """It is an outage like any other."""
    hosts = f"127.0.0.1:{free_port()},127.0.0.1:{free_port()}"
    async with Pod(url=Secret(f"redis+sentinel://{hosts}/mymaster")) as pod:
        assert pod.store.degraded
        grant = await pod.login()
        assert pod.store.last_known(grant.session.id) == grant.session


async def test_failover_under_load(master: RedisServer, sentinels: list[int]) -> None:
    """While the replica takes over, sessions are used and logged out. No logout is missed."""
    for port in sentinels:
        await until(lambda port=port: ready(port), SOON)  # type: ignore[misc]
    hosts = ",".join(f"127.0.0.1:{port}" for port in sentinels)
    where = {"url": Secret(f"redis+sentinel://{hosts}/mymaster/0")}
    async with Pod(**where) as pod, Pod(**where) as other:
        await pod.coherent()
        grants = [await other.login() for _ in range(200)]
        await pod.warm(*grants)
        before = master.calls().get("mget", 0)
        await pod.warm(*grants)
        assert master.calls().get("mget", 0) == before  # what is known costs nothing
        assert master.admin.wait(1, int(SOON * 1000)) == 1
        load = Load(pod, other, grants)
        running = asyncio.create_task(load.run())
        await until(lambda: load.ended > 5, SOON)
        master.kill()
        await until(lambda: pod.store.near.flushes > 0, SOON)
        await until(lambda: pod.store.near.coherent, 2 * SOON)
        ended = load.ended
        await until(lambda: load.ended > ended + 5, SOON)
        load.stop()
        await running
        assert load.wrong == []
