"""What is answered, counted and logged about a message that is refused before it has a route.

Nothing of such a message is logged: it may be a password, or an attack on the log's readers. Only
what was parsed without a fault is: the method, the request id, and the client that a trusted proxy
names. Must not know how a connection reads or closes.
"""

from __future__ import annotations

from time import monotonic, time
from typing import TYPE_CHECKING, Final

from sidecar.errors import Malformed
from sidecar.proxy.refusals import shows_page
from sidecar.wire.client_address import client_of, parse_address
from sidecar.wire.head import RequestHead
from sidecar.wire.replies import ALLOW, DOCUMENTS, RETRY_AFTER, document, problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.proxy.context import DataPlaneContext
    from sidecar.wire.forwarded import Forwarding
    from sidecar.wire.replies import ReplyTemplate

ROUTE: Final = "malformed"  # in the place of a route's name, in metrics and in the access log
# The header section was in order, if one of these is what is wrong.
OF_TARGET: Final = frozenset({Malformed.PATH, Malformed.QUERY, Malformed.TARGET})

_LINES: Final = {405: ALLOW, 429: RETRY_AFTER, 503: RETRY_AFTER}
_UNREAD: Final = RequestHead()


def reject(
    context: DataPlaneContext,
    forwarding: Forwarding,
    status: int,
    reason: str,
    head: RequestHead | None = None,
) -> bytes:
    """Count and log a refusal; return the answer, after which the connection must close.

    `reason` is a `Malformed`, or the name of the limit that was exceeded. `head` has what is known
    of the request, if that is anything.
    """
    head = head or _UNREAD
    context.malformed.codes[status] += 1
    request_id = head.request_id or next(context.request_ids)
    client = forwarding.client(head)
    if isinstance(reason, Malformed):
        note(context, status, reason, request_id, client)
    if context.access_log is not None:
        context.access_log.record(
            *(time(), request_id, client, head.method, "", ROUTE, status, reason),
            *(0.0, None, "", "", ""),
        )
    return problem(
        status,
        request_id,
        forms(context, status, reason, head),
        headers=_LINES.get(status, b""),
        close=True,
        body=head.method != b"HEAD",
    )


def note(
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


def forms(
    context: DataPlaneContext, status: int, reason: str, head: RequestHead
) -> Mapping[int, ReplyTemplate]:
    """The form of the answer: a page for a person, a problem document with the reason for others.

    A limit is not named: what it protects is nobody else's business.
    """
    if shows_page(head):
        return context.pages
    return {status: document(status, reason)} if isinstance(reason, Malformed) else DOCUMENTS
