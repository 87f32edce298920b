"""Writes logins to Redis at a constant rate, through the sidecar's own store.

Run as `python -m bench.login_writer REDIS_PORT PER_SECOND`; it runs until it is stopped. No
passwords are involved, because hashing them takes longer than everything else. What the machine
cannot write in time is not written at all: otherwise, a short pause would be followed by a flood.
"""

from __future__ import annotations

import asyncio
import secrets
import sys

from bench.seeding import invented
from sidecar.auth.value_mac import ValueMac
from sidecar.secret import Secret
from sidecar.sessions.redis.connect import RedisConfig, connect
from sidecar.sessions.redis.store import RedisStore
from sidecar.telemetry.metrics import Metrics

TICK = 0.01  # seconds
MOST = 100  # logins at once
TIMEOUT = 60.0  # seconds


async def write(port: int, rate: int) -> None:
    """Write logins for ever. Raises RedisUnavailable if a write fails."""
    mac = ValueMac([secrets.token_bytes(32)], "bench", "bench")  # no sidecar reads these logins
    client = connect(RedisConfig(url=Secret(f"redis://127.0.0.1:{port}/0"), timeout=TIMEOUT))
    store = RedisStore(client, Metrics(), mac, timeout=TIMEOUT)
    clock = asyncio.get_running_loop().time
    began, passed = clock(), 0
    while True:
        due = int((clock() - began) * rate) - passed
        await asyncio.gather(*(store.write(grant) for grant in invented(min(due, MOST))))
        passed += due
        await asyncio.sleep(TICK if due < MOST else 0)


if __name__ == "__main__":
    asyncio.run(write(int(sys.argv[1]), int(sys.argv[2])))
