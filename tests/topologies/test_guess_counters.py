"""Attempts to log in are counted in a Redis Cluster, where one attempt has keys in many slots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.secret import Secret
from sidecar.sessions.memory.windows import Count
from sidecar.sessions.redis.connect import RedisConfig, connect
from sidecar.sessions.redis.guess_counters import CONNECTIONS, RedisGuessCounters
from sidecar.sessions.redis.key_names import KeyNames
from tests.topologies.cluster import cluster
from tests.topologies.pod import PATIENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.topologies.cluster import Node


@pytest.fixture
def nodes() -> Iterator[list[Node]]:
    """Three primaries, each with a third of the slots."""
    with cluster() as made:
        yield made


async def test_a_cluster(nodes: list[Node]) -> None:
    """Counts, marks and resets work for keys in different slots."""
    url = Secret(f"redis+cluster://127.0.0.1:{nodes[0].port}")
    client = connect(RedisConfig(url=url, max_connections=CONNECTIONS, timeout=PATIENT))
    counters = RedisGuessCounters(client, KeyNames("p:", "realm"), timeout=PATIENT)
    *keys, familiar = (bytes([number]) * 16 for number in range(9))
    assert await counters.is_familiar(familiar) is False
    assert await counters.count(keys, familiar, 7, 100.0) == ([Count(1, 0)] * 8, False)
    assert await counters.count(keys, familiar, 8, 100.0) == ([Count(1, 1)] * 8, False)
    await counters.forgive(keys, 8, 100.0, (familiar, 500.0))
    found = await counters.count(keys, familiar, 8, 100.0)
    assert found == ([Count(1, 0)] + [Count(1, 1)] * 7, True)
    assert await counters.is_familiar(familiar) is True
    await counters.close()
    assert all(node.lives() for node in nodes)
    assert all(name.startswith("p:guess:") for node in nodes for name in node.lives())
