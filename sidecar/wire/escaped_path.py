"""Reads paths whose escapes matter to the application: `%2F`, `%2E`, `;` and escaped escapes.

Servers differ in what they make of these, so `wire.target` refuses them. A route may accept them;
the application then gets the path as received. Owns the one reading that routes see of it, and what
is refused even then. Knows no routes.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from sidecar.wire.octets import keeping

# Visible ASCII without `?`, `#` and `\`
_OCTETS: Final = keeping(bytes(c for c in range(0x21, 0x7F) if chr(c) not in "?#\\"))
_TEXT: Final = keeping(bytes(c for c in range(0x20, 0x100) if c not in b"\x7f\\"))
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ESCAPE: Final = re.compile(rb"%[0-9A-Fa-f]{2}")
# What the reading for routes keeps as received: an escaped `/` or `;`, and an escaped escape
_KEPT: Final = re.compile(rb"%(?i:2f|3b|25(?=[0-9a-f]{2}))")
_SEPARATORS: Final = re.compile(rb"[/;]")
_PARAMETERS: Final = re.compile(rb";[^/]*")
_AMBIGUOUS: Final = re.compile(r";|%[0-9A-Fa-f]{2}")


def read_escaped(path: bytes) -> str | None:
    r"""Return a path, as received, in the form that routes see; None if it is always refused.

    Its segments end at literal slashes. Everything is decoded once, except that `%2F`, `%3B` and
    `%25` before two hexadecimal digits stay as they are, and so does `;`.

    Refused is whatever could lead out of its literal segments in the reading of some server: a dot
    segment, with or without parameters, at any depth of decoding; an empty segment, or `//` at the
    beginning; `\`, control characters and other than UTF-8; more than two layers of escapes.
    """
    if path.translate(_OCTETS) != path or _BAD_ESCAPE.search(path) or b"//" in path:
        return None
    decoded = path
    for _ in range(2):
        decoded = unquote_to_bytes(decoded)
        if not _is_text(decoded):
            return None
    # No server finds a separator or a dot in this path that decoding twice does not show.
    pieces = _SEPARATORS.split(decoded)
    if _ESCAPE.search(decoded) or b"." in pieces or b".." in pieces:
        return None
    if _PARAMETERS.sub(b"", decoded).startswith(b"//"):  # the authority of another host
        return None
    kept = [*_KEPT.findall(path), b""]
    parts = zip(map(unquote_to_bytes, _KEPT.split(path)), kept, strict=True)
    return b"".join(part + escape for part, escape in parts).decode()


def is_ambiguous(path: str) -> bool:
    """Whether a path that routes see has escapes or parameters that servers read differently."""
    return _AMBIGUOUS.search(path) is not None


def _is_text(decoded: bytes) -> bool:
    if decoded.translate(_TEXT) != decoded:
        return False
    try:
        decoded.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
