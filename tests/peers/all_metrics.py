"""Metrics of a sidecar whose sessions are in Redis, so that every optional metric exists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.proxy.held import HeldOctets
from sidecar.proxy.upload_queue import UploadQueue
from sidecar.sessions.memory.near import NearCache
from sidecar.sessions.revocation.journal import Journal
from sidecar.sessions.tiered.breaker import State
from sidecar.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterable


def all_metrics(reasons: Iterable[str] = ()) -> Metrics:
    """Return metrics with every optional part and all counters at zero."""
    metrics = Metrics(reasons, State)
    metrics.near = NearCache(lambda: 0.0, lambda: 0.0, max_sessions=1, max_stale=1.0)
    metrics.journal = Journal()
    metrics.body_buffer = HeldOctets(1)
    metrics.uploads = UploadQueue[int](1)
    return metrics
