"""Sentinel: three real sentinels, a master and a replica, and a failover."""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
import redis

from sidecar.secret import Secret
from tests.peers.patience import until
from tests.peers.redis_server import RedisServer, find_program, free_port
from tests.topologies.load import Load
from tests.topologies.pod import SOON, Pod

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIGURATION = """
port {port}
bind 127.0.0.1
dir {folder}
sentinel monitor mymaster 127.0.0.1 {master} 2
sentinel down-after-milliseconds mymaster 1000
sentinel failover-timeout mymaster 10000
"""


@pytest.fixture
def master() -> Iterator[RedisServer]:
    """The master, which the test kills."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def sentinels(master: RedisServer, tmp_path: Path) -> Iterator[list[int]]:
    """The ports of three sentinels that watch the master and its replica."""
    ports = [free_port() for _ in range(3)]
    with ExitStack() as running:
        running.enter_context(
            RedisServer(
                "--replicaof", f"127.0.0.1 {master.port}", "--repl-diskless-sync-delay", "0"
            )
        )
        for port in ports:
            file = tmp_path / f"{port}.conf"
            file.write_text(CONFIGURATION.format(port=port, folder=tmp_path, master=master.port))
            process = subprocess.Popen(
                [find_program(), str(file), "--sentinel"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            running.callback(process.wait, SOON)
            running.callback(process.kill)
        yield ports


def ready(port: int) -> bool:
    """Whether this sentinel knows the replica and both other sentinels."""
    client = redis.Redis(port=port, socket_timeout=5.0, decode_responses=True)
    try:
        state = client.execute_command("SENTINEL", "MASTER", "mymaster")  # type: ignore[no-untyped-call]  # redis-py's gap
    except redis.ConnectionError:
        return False
    finally:
        client.close()
    state = state if isinstance(state, dict) else dict(zip(state[::2], state[1::2], strict=True))
    return [int(state[name]) for name in ("num-slaves", "num-other-sentinels")] == [1, 2]


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
