"""How much each client has open, and what is refused because of it.

Counts connections, and requests that trusted proxies pass on, by client (`wire.client_address`).
Counts and logs refusals. Must not know how a connection is closed or a request answered.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sidecar.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

# What is exceeded, as the label `limit` of the metric and of the log has it.
CONNECTIONS: Final = "connections"
ADDRESS: Final = "address"
UNFINISHED: Final = "unfinished"

_LOG_INTERVAL: Final = 60.0  # seconds without another line about the same limit


class Admission:
    """What each client has open. Clients are texts as `client_of` makes them, never empty."""

    __slots__ = ("_logged", "_metrics", "_open")

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._open: dict[str, int] = {}  # without zeros
        self._logged: dict[str, float] = {}  # when the last line about each limit was written

    def __repr__(self) -> str:
        return f"<Admission {sum(self._open.values())} open by {len(self._open)} clients>"

    def opened(self, client: str) -> int:
        """How many connections and proxied requests this client has open."""
        return self._open.get(client, 0)

    def add(self, client: str) -> None:
        """Count one more."""
        self._open[client] = self._open.get(client, 0) + 1

    def remove(self, client: str) -> None:
        """Count one less; only after `add`."""
        left = self._open[client] - 1
        if left:
            self._open[client] = left
        else:
            del self._open[client]

    def refused(self, limit: str, client: str) -> None:
        """Count a refusal, and log it unless one for the same limit was logged a minute ago."""
        self._metrics.clients_refused[limit] += 1
        now = monotonic()
        if now - self._logged.get(limit, -_LOG_INTERVAL) >= _LOG_INTERVAL:
            self._logged[limit] = now
            logger.warning("clients are being refused", extra={"limit": limit, "client": client})
