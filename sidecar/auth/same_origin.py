"""Whether a browser sent a request on behalf of our own pages: what guards cookies against forgery.

Owns the reading of Origin (RFC 6454) and Sec-Fetch-Site (W3C Fetch Metadata). Knows neither
sessions nor routes, and not the scheme that the client used.
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
    """Whether a forged request of this kind would do harm: an unsafe method, or opening a tunnel.

    A WebSocket begins with a GET, and any page may open one to anywhere.
    """
    return head.method not in SAFE_METHODS or head.upgrade is not None


def is_same_origin(head: RequestHead) -> bool:
    """Whether the browser says that this request comes from our own origin, or from its user alone.

    Sec-Fetch-Site decides when it is there: scripts cannot set it, and it knows schemes and ports.
    Otherwise Origin must name the host of this request; a request with neither is not believed.
    """
    if head.fetch_site is not None:
        return head.fetch_site in _SAME and b"sec-fetch-site" not in head.repeated
    if head.origin is None or b"origin" in head.repeated:
        return False
    match = _ORIGIN.fullmatch(head.origin.lower())  # not "null", which says "somewhere else"
    if match is None:
        return False
    port = _DEFAULT_PORTS[match[1]]
    host = match[2].removesuffix(port)
    return host != b"" and host == head.host.lower().removesuffix(port)
