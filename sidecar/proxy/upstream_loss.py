"""What it means for a request that its upstream connection has broken.

Pure decisions on the two messages so far; what follows from them is `UpstreamLeg`'s business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.wire.head import Framing

if TYPE_CHECKING:
    from sidecar.wire.framing import Body
    from sidecar.wire.head import RequestHead

# Methods that may be sent twice without harm (RFC 9110 section 9.2.2).
_IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))


def can_resend(head: RequestHead, status: int) -> bool:
    """Whether the request may be sent again; `status` is that of its answer, 0 without one."""
    return not status and head.framing is Framing.NONE and head.method in _IDEMPOTENT


def is_early_error(body: Body | None, status: int) -> bool:
    """Whether the answer is an error that came before the whole of the request's body.

    Closing then resets the connection, so an answer of unknown length cannot end in another way.
    For errors alone: a part of something else must not pass for the whole.
    """
    return status >= 400 and body is not None and not body.done
