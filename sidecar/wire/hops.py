"""Max-Forwards: how many more proxies may forward an OPTIONS request (RFC 9110 section 7.6.2).

It also applies to TRACE, which the sidecar refuses. With any other method it has no effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.errors import Malformed, PeerError

if TYPE_CHECKING:
    from sidecar.wire.head import RequestHead

_NAME: Final = b"max-forwards"
_MOST: Final = 999_999_999  # the greatest value that is passed on, whatever was received
_MOST_DIGITS: Final = 9


def decrement_max_forwards(head: RequestHead) -> RequestHead | None:
    """Return the request with Max-Forwards decremented; None if it must be answered here.

    A request without the header is returned unchanged. Raises PeerError(400) if the header is
    repeated or not a number: two servers could count differently.
    """
    lines = head.lines.splitlines(keepends=True)
    places = [n for n, line in enumerate(lines) if line.partition(b":")[0].lower() == _NAME]
    if not places:
        return head
    if len(places) > 1:
        raise PeerError(400, "more than one Max-Forwards", Malformed.MAX_FORWARDS)
    name, _, value = lines[places[0]].partition(b":")
    value = value.strip()
    if not value.isdigit():
        raise PeerError(400, "malformed Max-Forwards", Malformed.MAX_FORWARDS)
    digits = value.lstrip(b"0")
    if not digits:
        return None
    left = int(digits) - 1 if len(digits) <= _MOST_DIGITS else _MOST
    lines[places[0]] = b"%b: %d\r\n" % (name, left)
    lower = head.copy()  # the parser may use the head again for the next request
    lower.lines = b"".join(lines)
    return lower
