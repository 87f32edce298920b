"""Sentinel: three real sentinels, a master and a replica, and a failover."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import redis

from sidecar.secret import Secret
from sidecar.settings import read_secret
from tests.peers.patience import until
from tests.peers.redis_server import RedisServer, find_program, free_port
from tests.topologies.pod import SOON, Pod
from tests.topologies.rotating import FIRST, SECOND, Rotation, busy, load

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
    with running_sentinels(master, tmp_path, "") as ports:
        yield ports


@contextmanager
def running_sentinels(master: RedisServer, folder: Path, more: str) -> Iterator[list[int]]:
    """Three sentinels, with `more` in their configuration, and a replica."""
    ports = [free_port() for _ in range(3)]
    with ExitStack() as running:
        running.enter_context(
            RedisServer(
                "--replicaof", f"127.0.0.1 {master.port}", "--repl-diskless-sync-delay", "0"
            )
        )
        for port in ports:
            file = folder / f"{port}.conf"
            text = CONFIGURATION.format(port=port, folder=folder, master=master.port)
            file.write_text(text + more)
            process = subprocess.Popen(
                [find_program(), str(file), "--sentinel"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            running.callback(process.wait, SOON)
            running.callback(process.kill)
        yield ports


def ready(port: int, username: str | None = None, password: str | None = None) -> bool:
    """Whether this sentinel knows the replica and both other sentinels."""
    client = redis.Redis(
        port=port,
        socket_timeout=5.0,
        decode_responses=True,
        username=username,
        password=password,
    )
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
            for kind in ("normal", "pubsub"):
                master.admin.client_kill_filter(_type=kind, skipme=True)
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
