"""Logins elsewhere: so many a second, written into Redis by the sidecar's own store.

`python -m bench.login_writer REDIS_PORT PER_SECOND`, until it is stopped. Passwords are left out:
hashing them takes longer than all else.
"""

from __future__ import annotations

import asyncio
import sys

from bench.seeding import invented
from sidecar.secret import Secret
from sidecar.sessions.redis.connect import RedisConfig, connect
from sidecar.sessions.redis.store import RedisStore
from sidecar.telemetry.metrics import Metrics

TICK = 0.01  # seconds


async def write(port: int, rate: int) -> None:
    """Never returns; raises RedisUnavailable when a write fails."""
    client = connect(RedisConfig(url=Secret(f"redis://127.0.0.1:{port}/0"), timeout=1.0))
    store = RedisStore(client, Metrics(), timeout=1.0)
    clock = asyncio.get_running_loop().time
    began, written = clock(), 0
    while True:
        due = int((clock() - began) * rate) - written
        await asyncio.gather(*(store.write(grant) for grant in invented(due)))
        written += due
        await asyncio.sleep(TICK)


if __name__ == "__main__":
    asyncio.run(write(int(sys.argv[1]), int(sys.argv[2])))
