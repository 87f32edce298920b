"""Metrics of a sidecar whose sessions are in Redis, so that every optional metric exists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.sessions.memory.near import NearCache
from sidecar.sessions.revocation.journal import Journal
from sidecar.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterable


def all_metrics(reasons: Iterable[str] = ()) -> Metrics:
    """Return metrics with every optional part and all counters at zero."""
    metrics = Metrics(reasons)
    metrics.near = NearCache(lambda: 0.0, lambda: 0.0, max_sessions=1, max_stale=1.0)
    metrics.journal = Journal()
    return metrics
