"""How the control plane tells the data plane who a request is of: a header line of its answer.

The data plane takes the line off for its access log; no client and no application sees it. Knows
neither plane.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, unquote

CALLER_HEADER: Final = "Sidecar-Caller"


def write_caller(user: str, issuer: str, sid: str) -> str:
    """Write the value of the line. Lone surrogates, which no UTF-8 has, become question marks."""
    return " ".join(quote(part, safe="", errors="replace") for part in (user, issuer, sid))


def read_caller(value: bytes) -> tuple[str, str, str]:
    """Read user, issuer and sid from a value; three empty texts if it is malformed."""
    parts = value.decode("latin-1").split(" ")
    if len(parts) != 3:
        return "", "", ""
    user, issuer, sid = map(unquote, parts)
    return user, issuer, sid
