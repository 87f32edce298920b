"""The counts of what clients have open."""

from __future__ import annotations

from sidecar.proxy.admission import Admission
from sidecar.telemetry.metrics import Metrics


def test_what_is_open() -> None:
    """Each client has a count of its own, and one that has nothing open takes no memory."""
    counts = Admission(Metrics())
    counts.add("a")
    counts.add("a")
    counts.add("b")
    assert (counts.opened("a"), counts.opened("b"), counts.opened("c")) == (2, 1, 0)
    counts.remove("a")
    counts.remove("b")
    assert (counts.opened("a"), counts.opened("b")) == (1, 0)
    assert repr(counts) == "<Admission 1 open by 1 clients>"
