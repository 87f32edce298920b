"""Full load with clients that leave, stall and reset: a shorter run of the benchmark's check."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

import pytest

from bench.children import Children
from bench.lab import Lab
from bench.soak import soaked
from bench.steady import Plan, judge

# In so short a run, caches and buffers are still growing towards their limits at first.
PLAN: Final = Plan(seconds=10, warm_up=4.0, window=2.0)


@pytest.mark.needs("nginx", "redis-server", "wrk")
@pytest.mark.timeout(120)
async def test_nothing_is_left_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The load leaks no memory, connection, task or file, and fails no well-behaved client.

    No fault is logged.
    """
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin:/sbin")  # nginx's, for non-root
    # Not below pytest's own folder: nginx's worker runs as another user, who has no access there.
    with tempfile.TemporaryDirectory() as folder, Children(Path(folder)) as children:
        lab = Lab(children)
        lab.start_upstream()
        lab.start_redis()
        seen = await soaked(lab, PLAN)
    assert [outcome.line() for outcome in judge(seen, PLAN) if not outcome.held] == []
