"""Where a browser may be sent after a login or logout: the only module that judges `rd`.

Pure. A target is accepted unchanged or refused; nothing is repaired.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Collection

# White space, control characters and everything outside ASCII are refused: browsers and servers
# read them differently, and none of them occurs in a request target (RFC 9112 section 3.2).
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")
_ABSOLUTE = re.compile(
    r"(https?)://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?", re.ASCII
)
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}


def parse_origin(text: str) -> str | None:
    """`scheme://host[:port]` in lower case, without a default port; None if it is not an origin."""
    match = _ABSOLUTE.fullmatch(text)
    return None if match is None else _origin(match)


def safe_redirect(rd: str, own_origin: str, allowed_origins: Collection[str]) -> str | None:
    """`rd` if a browser that follows it stays here or on an allowed origin, else None.

    Allowed: a path of this origin (`/a?b#c`), or an absolute http(s) URL whose origin is exactly
    `own_origin` or one of `allowed_origins` (both as `parse_origin` gives them). Every target of a
    request that the sidecar forwards is allowed. The size of the request limits its length.
    """
    if _VISIBLE.fullmatch(rd) is None:
        return None
    path = rd
    if not rd.startswith("/"):
        match = _ABSOLUTE.match(rd)
        if match is None:
            return None
        origin = _origin(match)
        if origin is None or (origin != own_origin and origin not in allowed_origins):
            return None
        path = rd[match.end() :]
    return rd if _plain(path) else None


def _origin(match: re.Match[str]) -> str | None:
    scheme, host, port = match.group(1), match.group(2).lower(), match.group(3)
    if port is None or port == _DEFAULT_PORTS[scheme]:
        return f"{scheme}://{host}"
    return f"{scheme}://{host}:{int(port)}" if 0 < int(port) < 65536 else None


def _plain(rest: str) -> bool:
    """Whether the part after the origin begins with a path that all clients and servers read alike.

    The path is checked as the most lenient reader would see it, decoded twice (`/%2f/evil.example`,
    `/%255cevil.example`). In a query and a fragment, nothing can lead elsewhere.
    """
    if rest and rest[0] not in "/?#":  # `https://good.example@evil.example`, `…example.evil`
        return False
    path = unquote_to_bytes(unquote_to_bytes(re.split(r"[?#]", rest, maxsplit=1)[0]))
    try:
        path.decode("utf-8")
    except UnicodeDecodeError:
        return False
    if path.startswith(b"//") or b"\\" in path or _CONTROL.search(path):
        return False
    return not any(segment in {b".", b".."} for segment in path.split(b"/"))
