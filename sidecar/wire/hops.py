"""Max-Forwards: how many proxies an OPTIONS request may still pass (RFC 9110 section 7.6.2).

TRACE, the other method that it concerns, is refused; on any other it is a header like any other.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Final

from sidecar.errors import PeerError

if TYPE_CHECKING:
    from sidecar.wire.head import RequestHead

_NAME: Final = b"max-forwards"
_MOST: Final = 999_999_999  # the most that is told to the next one, whatever was received
_MOST_DIGITS: Final = 9


def one_hop_less(head: RequestHead) -> RequestHead | None:
    """The request as the next hop gets it, the same if it sets no limit; None: it ends here.

    Raises PeerError(400) for a limit that is no number, or that is there twice: it would have to be
    checked before the request goes on, and two readers could count differently.
    """
    lines = head.lines.splitlines(keepends=True)
    places = [n for n, line in enumerate(lines) if line.partition(b":")[0].lower() == _NAME]
    if not places:
        return head
    if len(places) > 1:
        raise PeerError(400, "more than one Max-Forwards")
    name, _, value = lines[places[0]].partition(b":")
    value = value.strip()
    if not value.isdigit():
        raise PeerError(400, "malformed Max-Forwards")
    digits = value.lstrip(b"0")
    if not digits:
        return None
    left = int(digits) - 1 if len(digits) <= _MOST_DIGITS else _MOST
    lines[places[0]] = b"%b: %d\r\n" % (name, left)
    lower = copy(head)  # the head itself may serve the next request
    lower.lines = b"".join(lines)
    return lower
