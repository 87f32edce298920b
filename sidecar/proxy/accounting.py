"""What is counted and logged about one request.

Owns the figures of an exchange (when it began, its status, why it was denied or failed) and writes
them down once, at its end. It decides nothing and sends nothing.
"""

from __future__ import annotations

from enum import StrEnum
from time import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sidecar.auth.decision import Allow, Forbidden
    from sidecar.auth.reason import Reason
    from sidecar.auth.routes import Route
    from sidecar.errors import Malformed
    from sidecar.proxy.context import DataPlaneContext
    from sidecar.telemetry.access_log import AccessLog
    from sidecar.wire.head import RequestHead

# What a 4xx or 5xx status alone does not say; the words of `errors.UpstreamError` stand beside it.
CLIENT_BUSY = "client_busy"
CLIENT_GONE = "client_gone"
CROWDED_OUT = "crowded_out"
PREFLIGHT = "preflight"
SESSION_ENDED = "session_ended"
SLOW_READER = "slow_reader"
SLOW_REQUEST = "slow_request"
STALE_COOKIE = "stale_cookie"


class Refused(StrEnum):
    """Who else may refuse a request, beside the gate and the parser."""

    CONTROL_PLANE = "control_plane"  # its own log lines with the request id say more

    @property
    def label(self) -> str:
        """The word for logs, as `auth.reason.Reason` has it."""
        return self.value


class Accountable(Protocol):
    """What the accounts say about the request itself."""

    context: DataPlaneContext
    head: RequestHead
    request_id: bytes
    route: Route
    allow: Allow | None
    forbidden: Forbidden | None  # the rule that a known caller does not meet
    named: tuple[str, str, str] | None  # subject, issuer and sid, as the control plane says

    @property
    def client(self) -> str:
        """The client's address, as logs have it."""


class Accounting:
    """The figures of one exchange; times in monotonic seconds, `upstream_time` in seconds.

    Defaults are class attributes, as `Exchange` has them. Who makes it sets `began` and `reason`: a
    compiled class leaves out a default None of several types.
    """

    began: float
    status = 0  # of the answer, once it has begun
    upstream_time = 0.0  # from the request sent to the head of the answer
    reason: Reason | Malformed | Refused | None  # why the request was denied
    fault = ""  # what went wrong otherwise

    def __repr__(self) -> str:
        return f"<Accounting status={self.status} reason={self.reason} fault={self.fault!r}>"

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
        caller, forbidden = exchange.named, exchange.forbidden
        if forbidden is not None:
            allow = forbidden.allow
        if caller is None:
            caller = ("", "", "")
            if allow is not None:
                caller = (allow.subject, allow.issuer, allow.session_id)
        log.record(
            time(),
            exchange.request_id,
            exchange.client,
            head.method,
            head.path,
            exchange.route.name,
            self.status,
            self.reason.label if self.reason is not None else self.fault,
            now - self.began,
            self.upstream_time or None,
            *caller,
            *(("", "") if forbidden is None else (forbidden.route, forbidden.missing)),
        )
