"""What is counted and logged about one request.

Owns the figures of an exchange (when it began, its status, why it was denied or failed) and writes
them down once, at its end. It decides nothing and sends nothing.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Protocol

import msgspec

from sidecar.auth.reason import Reason

if TYPE_CHECKING:
    from sidecar.auth.decision import Allow
    from sidecar.auth.routes import Route
    from sidecar.proxy.context import DataPlaneContext
    from sidecar.telemetry.access_log import AccessLog
    from sidecar.wire.forwarded import Forwarding
    from sidecar.wire.head import RequestHead

# What a 4xx or 5xx status alone does not say; the words of `errors.UpstreamError` stand beside it.
BAD_BODY = "bad_body"
CLIENT_BUSY = "client_busy"
CLIENT_GONE = "client_gone"
CROWDED_OUT = "crowded_out"
PREFLIGHT = "preflight"
SESSION_ENDED = "session_ended"
SLOW_READER = "slow_reader"
SLOW_REQUEST = "slow_request"
STALE_COOKIE = "stale_cookie"


class Connected(Protocol):
    """The connection that a request came on."""

    forwarding: Forwarding


class Accountable(Protocol):
    """What the accounts say about the request itself."""

    context: DataPlaneContext
    head: RequestHead
    request_id: bytes
    route: Route
    allow: Allow | None

    @property
    def downstream(self) -> Connected:
        """The connection that the request came on."""


class Accounting(msgspec.Struct, gc=False):
    """The figures of one exchange; times in monotonic seconds, `upstream_time` in seconds.

    A struct because its constructor runs in C: this is made for every request.
    """

    began: float
    status: int = 0  # of the answer, once it has begun
    upstream_time: float = 0.0  # from the request sent to the head of the answer
    reason: Reason | None = None  # why the request was denied
    fault: str = ""  # what went wrong otherwise

    def close(self, exchange: Accountable, now: float) -> None:
        """Count the request, and log it where that is configured. Call this once."""
        context = exchange.context
        context.metrics.in_flight -= 1
        counted = context.route_metrics[exchange.route.name]
        counted.count(self.status, now - self.began, self.upstream_time)
        if context.access_log is not None and (context.log_all or self.reason is not None):
            self._log(context.access_log, exchange, now)

    def _log(self, log: AccessLog, exchange: Accountable, now: float) -> None:
        head, allow = exchange.head, exchange.allow
        log.record(
            time(),
            exchange.request_id,
            exchange.downstream.forwarding.client(head),
            head.method,
            head.path,
            exchange.route.name,
            self.status,
            self.reason.label if self.reason is not None else self.fault,
            now - self.began,
            self.upstream_time or None,
            allow.subject if allow is not None else "",
            allow.issuer if allow is not None else "",
            allow.session_id if allow is not None else "",
        )
