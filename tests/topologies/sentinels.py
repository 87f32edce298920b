"""Three real sentinels, which watch a master and its replica."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import redis

from tests.peers.redis_server import RedisServer, find_program, free_port
from tests.topologies.pod import SOON

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


@contextmanager
def running_sentinels(master: RedisServer, folder: Path, more: str = "") -> Iterator[list[int]]:
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
