"""The composition root: what it reports about itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NoReturn

import pytest
from msgspec import structs

from sidecar.app.sidecar import Sidecar
from sidecar.settings import RouteSettings
from tests.peers.stack import configure

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.settings import Settings


async def test_uptime_when_the_clock_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The uptime does not change when the system clock is set."""
    sidecar = Sidecar(configure(tmp_path, "http://127.0.0.1:8080"))
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert 0 <= sidecar.status()["uptime_seconds"] < 3600


async def test_a_reload_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a value cannot be made from good settings, the old ones stay in use everywhere."""
    settings = configure(tmp_path, "http://127.0.0.1:1")
    sidecar = Sidecar(settings)
    before = (sidecar.trust.settings, sidecar.trust.components, sidecar.trust.current)
    changed = structs.replace(settings, route=(RouteSettings(path="/new"),), upstream_timeout=1.0)

    def refuse(_: Settings) -> NoReturn:
        raise ValueError("cannot be made")

    monkeypatch.setattr("sidecar.app.build.live.make_sign_in_page", refuse)
    with pytest.raises(ValueError, match="cannot be made"):
        await sidecar.reload(changed)
    assert (sidecar.trust.settings, sidecar.trust.components, sidecar.trust.current) == before
    assert sidecar.settings is settings
    assert "new" not in sidecar.metrics.routes
