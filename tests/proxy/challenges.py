"""Parser for the value of a `WWW-Authenticate: Bearer` header (RFC 6750 section 3)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.peers.raw_client import Response


def challenge(answer: Response) -> dict[str, str]:
    """Return the challenge's parameters; fail unless it is one well-formed Bearer challenge."""
    value = answer.fields.one("www-authenticate").decode("ascii")
    match = re.fullmatch(r'Bearer(?: ((?:[a-z_]+="[^"\\]*"(?:, )?)+))?', value)
    assert match is not None, value
    found: list[tuple[str, str]] = re.findall(r'([a-z_]+)="([^"]*)"', match[1] or "")
    assert len({name for name, _ in found}) == len(found), value
    return dict(found)
