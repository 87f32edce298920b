"""What the logs say about requests that are refused, at a rate that no client can raise.

Nothing that a client has sent is logged, except what was parsed without a fault or verified: the
address, the request id, and who has signed in.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from sidecar.telemetry.audit import Event, Origin, Subject, audit
from sidecar.wire.client_address import client_of, parse_address

if TYPE_CHECKING:
    from sidecar.auth.decision import Forbidden
    from sidecar.errors import Malformed
    from sidecar.proxy.context import DataPlaneContext
    from sidecar.wire.forwarded import Forwarding
    from sidecar.wire.head import RequestHead


def note_malformed(
    context: DataPlaneContext, status: int, reason: Malformed, request_id: bytes, client: str
) -> None:
    """Count a malformed message, and log it unless there are too many of its kind."""
    context.metrics.malformed[reason] += 1
    cause = client_of(parse_address(client)) or client
    left_out = context.log_limit.admit(reason, cause, monotonic())
    if left_out is not None:
        extra = {
            "reason": str(reason),
            "status": status,
            "client": client,
            "request_id": request_id.decode("latin-1"),
            "left_out": left_out,
        }
        context.log.info("malformed request", extra=extra)


def note_forbidden(
    context: DataPlaneContext,
    forwarding: Forwarding,
    head: RequestHead,
    forbidden: Forbidden,
    request_id: bytes,
) -> None:
    """Log who may not do what, unless this user met this rule a moment ago."""
    allow, rule = forbidden.allow, forbidden.route
    cause = f"{allow.issuer} {allow.subject}"
    left_out = context.log_limit.admit(f"route {rule}", cause, monotonic())
    if left_out is None:
        return
    audit(
        "forbidden",
        Event.FORBIDDEN,
        Subject(allow.subject, allow.issuer, allow.session_id),
        Origin(forwarding.client(head), request_id.decode("latin-1")),
        result=forbidden.reason.label,
        more={"route": rule, "missing": forbidden.missing, "left_out": left_out},
    )
