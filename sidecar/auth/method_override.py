"""Reads the headers that ask an application to act on another method than the request line's.

The sidecar removes them, unless the route accepts one of them. Then the decision is about the
method that this header names. Owns which combinations are clear; knows no routes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sidecar.wire.head import RequestHead

# Every framework with method overrides honours these, and only of a POST request. If an override
# of GET, or to GET, were accepted, the decision would be about a method that many of them ignore.
_OVERRIDABLE: Final = frozenset((b"PUT", b"PATCH", b"DELETE"))
_POST: Final = b"POST"


def method_of(head: RequestHead, accepted: bytes) -> bytes | None:
    """Return the method that the application will act on, or None if that is unclear.

    `head` has at least one override. The application honours the header `accepted` (in lower case;
    empty: none). A single header that repeats the request's own method changes nothing.
    """
    if len(head.overrides) > 1:
        return None
    name, value = head.overrides[0]
    if value == head.method:
        return value
    if name != accepted or head.method != _POST or value not in _OVERRIDABLE:
        return None
    return value


def decided_on(head: RequestHead, method: bytes) -> RequestHead:
    """Return the request that the decision is about: with this method and no override."""
    decided = head.copy()  # the parser may use the head again for the next request
    decided.method = method
    decided.overrides = ()
    return decided


def forwarded(head: RequestHead) -> RequestHead:
    """Return the request as it is forwarded: with its override headers."""
    passed = head.copy()
    passed.lines += b"".join(b"%b: %b\r\n" % override for override in head.overrides)
    return passed
