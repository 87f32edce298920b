"""The parts of a request line that are rare: unusual methods, and versions other than HTTP/1.1.

RFC 9110 section 9, RFC 9112 section 2.3. Knows nothing of targets or headers.
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.errors import Malformed, PeerError
from sidecar.wire.headers import is_method, is_token

_VERSION: Final = re.compile(rb"HTTP/[0-9]\.[0-9]\Z")


def check_method(method: bytes) -> None:
    """Check a method other than the usual ones. Raises PeerError.

    The upstream decides which methods it serves, except CONNECT and TRACE. A token that is not in
    canonical spelling is a well-formed method that no route can name (RFC 9110 section 9.1), so
    the status is that of an unknown method, 501 (section 15.6.2), and not 400.
    """
    if not is_token(method):
        raise PeerError(400, "malformed method", Malformed.METHOD)
    if not is_method(method):
        raise PeerError(501, "only methods in upper case are served here", Malformed.METHOD)
    if method in {b"CONNECT", b"TRACE"}:  # TRACE would show the identity headers to the client
        raise PeerError(405, "this method is not served here", Malformed.METHOD)


def parse_minor(version: bytes) -> int:
    """Parse any version other than HTTP/1.1 (RFC 9112 section 2.3). Raises PeerError."""
    if version == b"HTTP/1.0":
        return 0
    if _VERSION.match(version):
        raise PeerError(505, "only HTTP/1.0 and HTTP/1.1 are spoken here", Malformed.VERSION)
    raise PeerError(400, "malformed request line", Malformed.REQUEST_LINE)
