"""Protects session cookies against cross-site request forgery.

Owns the reading of Origin (RFC 6454) and Sec-Fetch-Site (W3C Fetch Metadata). Knows neither
sessions, routes nor the scheme that the client used.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sidecar.wire.head import RequestHead

SAFE_METHODS: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE"))  # RFC 9110 section 9.2.1

_SAME: Final = frozenset((b"same-origin", b"none"))
_ORIGIN: Final = re.compile(rb"(https?)://([A-Za-z0-9._~!$&'()*+,;=%:\[\]-]+)")
_DEFAULT_PORTS: Final = {b"http": b":80", b"https": b":443"}


def changes_state(head: RequestHead) -> bool:
    """Whether forging this request could do harm: it has an unsafe method or opens a tunnel.

    A WebSocket handshake is a GET, and any page may open a WebSocket to any host.
    """
    return head.method not in SAFE_METHODS or head.upgrade is not None


def is_same_origin(head: RequestHead) -> bool:
    """Whether the browser says that our own origin, or its user directly, caused this request.

    Sec-Fetch-Site decides if it is present: scripts cannot set it, and it considers scheme and
    port. Otherwise, Origin must name the host of this request. Without either header, the answer
    is no.
    """
    if head.fetch_site is not None:
        return head.fetch_site in _SAME and b"sec-fetch-site" not in head.repeated
    if head.origin is None or b"origin" in head.repeated:
        return False
    match = _ORIGIN.fullmatch(head.origin.lower())  # "null" does not match: an opaque origin
    if match is None:
        return False
    port = _DEFAULT_PORTS[match[1]]
    host = match[2].removesuffix(port)
    return host != b"" and host == head.host.lower().removesuffix(port)
