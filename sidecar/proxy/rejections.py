"""What is answered, counted and logged about a message that is refused before it has a route.

Nothing of such a message is logged: it may be a password, or an attack on the log's readers. Only
what was parsed without a fault is: the method, the request id, and the client that a trusted proxy
names. Must not know how a connection reads or closes.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Final

from sidecar.errors import Malformed
from sidecar.proxy import refusal_log, refusals
from sidecar.wire.head import RequestHead
from sidecar.wire.replies import ALLOW, RETRY_AFTER, problem

if TYPE_CHECKING:
    from sidecar.proxy.context import DataPlaneContext
    from sidecar.wire.forwarded import Forwarding

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
    malformed = reason if isinstance(reason, Malformed) else None
    if malformed is not None:
        refusal_log.note_malformed(context, status, malformed, request_id, client)
    if context.access_log is not None:
        context.access_log.record(
            *(time(), request_id, client, head.method, "", ROUTE, status, reason),
            *(0.0, None, "", "", ""),
        )
    return problem(
        status,
        request_id,
        refusals.forms_for(head, context.pages, forwarding, status, malformed),
        headers=_LINES.get(status, b""),
        close=True,
        body=head.method != b"HEAD",
    )
