"""A rolling restart under load behind a real HAProxy: a shorter run of the benchmark's check."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.children import Children
from bench.lab import Lab
from bench.restarts import KINDS, restarted

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.needs("haproxy", "redis-server")
@pytest.mark.timeout(120)
async def test_no_request_fails(tmp_path: Path) -> None:
    """During ten restarts of one of two sidecars, no request fails and every exit is clean."""
    with Children(tmp_path) as children:
        lab = Lab(children)
        lab.start_redis()
        count, codes = await restarted(lab, 10)
    assert count.failures == {}
    assert codes == {0: 10}
    assert set(count.answered) == set(KINDS)
