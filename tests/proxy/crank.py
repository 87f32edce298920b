"""The data plane's monotonic clock, advanced by hand."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from sidecar.proxy import listener

if TYPE_CHECKING:
    import pytest

    from tests.proxy.memory_plane import Plane


class Crank:
    """Replaces `monotonic` in every data plane module; `now` is the time in seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = monotonic()
        for module in (
            "upstream_leg",
            "upstream_pool",
            "upload",
            "exchange",
            "client_connection",
            "downstream",
            "refusal_log",
        ):
            monkeypatch.setattr(f"sidecar.proxy.{module}.monotonic", lambda: self.now)

    def turn(self, plane: Plane, seconds: float) -> None:
        """Advance the clock and sweep for expired deadlines every half second, as in production."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + listener.SWEEP_INTERVAL)
            plane.listener.sweep(self.now)
