"""Checks the form of a token's registered claims (RFC 7519 section 4.1). Pure.

Knows neither issuers nor the time. An unacceptable claim is a returned Reason.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from sidecar.auth.reason import Reason
from sidecar.auth.session import FOREVER

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_DATE: Final = int(FOREVER)  # a time in milliseconds instead of seconds exceeds it

# The form of names such as sub, sid and jti, which also appear in logs and keys.
_TEXT: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,255}")


def check_names(claims: Mapping[str, Any]) -> Reason | None:
    """Check `sub`, which is required, `sid` and `jti`."""
    if "sub" not in claims:
        return Reason.CLAIM_MISSING
    for name in ("sub", "sid", "jti"):
        if not is_text(claims.get(name, "-")):
            return Reason.CLAIM_INVALID
    return None


def check_audience(claims: Mapping[str, Any], accepted: frozenset[str]) -> Reason | None:
    """Check `aud`: a string or a list of strings, compared exactly (RFC 7519 section 4.1.3).

    If no audience is `accepted`, only its form is checked.
    """
    if "aud" not in claims:
        return Reason.CLAIM_MISSING if accepted else None
    value = claims["aud"]
    audiences = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in audiences):
        return Reason.CLAIM_INVALID
    if not accepted:
        return None
    return Reason.AUDIENCE if accepted.isdisjoint(audiences) else None


def is_text(value: object) -> bool:
    """Whether this is a text of 1 to 255 characters without control characters."""
    return isinstance(value, str) and _TEXT.fullmatch(value) is not None


def is_date(value: object) -> bool:
    """Whether this is a NumericDate (RFC 7519 section 2) up to the year 9999, and not a boolean."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_DATE
