"""The composition root: what it reports about itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sidecar.app.sidecar import Sidecar
from tests.peers.stack import configure

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


async def test_uptime_when_the_clock_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The uptime does not change when the system clock is set."""
    sidecar = Sidecar(configure(tmp_path, "http://127.0.0.1:8080"))
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert 0 <= sidecar.status()["uptime_seconds"] < 3600
