"""Reads a token's registered claims, and checks their form (RFC 7519 section 4.1). Pure.

Knows neither issuers nor the time. An unacceptable claim is a returned Reason.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from sidecar.auth.claims import Scalar, claim_matches
from sidecar.auth.reason import Reason
from sidecar.auth.session import FOREVER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sidecar.claim_path import ClaimPath

MAX_DATE: Final = int(FOREVER)  # a time in milliseconds instead of seconds exceeds it

# The form of names such as sub, sid and jti, which also appear in logs and keys.
_TEXT: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,255}")


def find_subject(claims: Mapping[str, Any], path: ClaimPath | None) -> str | Reason:
    """Return the subject: `sub`, or the claim at `path`, where many issuers have a number."""
    if path is None:
        if "sub" not in claims:
            return Reason.CLAIM_MISSING
        value: Any = claims["sub"]
    else:
        value = path.find(claims)
        if value is None:
            return Reason.CLAIM_MISSING
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
    return value if is_text(value) else Reason.CLAIM_INVALID


def find_name(claims: Mapping[str, Any], path: ClaimPath) -> str | Reason:
    """Return the text at a path that the operator chose for the user's name."""
    value: Any = path.find(claims)
    if value is None:
        return Reason.CLAIM_MISSING
    return value if is_text(value) else Reason.CLAIM_INVALID


def check_ids(claims: Mapping[str, Any]) -> Reason | None:
    """Check `sid` and `jti`, which may be absent."""
    valid = is_text(claims.get("sid", "-")) and is_text(claims.get("jti", "-"))
    return None if valid else Reason.CLAIM_INVALID


def check_audience(
    claims: Mapping[str, Any], accepted: frozenset[str], path: ClaimPath | None = None
) -> Reason | None:
    """Check the audience: a string or a list of strings, compared exactly (RFC 7519 section 4.1.3).

    It is `aud`, or the claim at `path`. If no audience is `accepted`, only its form is checked.
    """
    value = claims.get("aud") if path is None else path.find(claims)
    if value is None and (path is not None or "aud" not in claims):
        return Reason.CLAIM_MISSING if accepted else None
    audiences = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in audiences):
        return Reason.CLAIM_INVALID
    if not accepted:
        return None
    return Reason.AUDIENCE if accepted.isdisjoint(audiences) else None


def find_dates(claims: Mapping[str, Any], *, dated: bool) -> tuple[float, float, float] | Reason:
    """Return when a token begins and expires, and when it was issued, without any leeway.

    A `dated` one begins when it was issued at the earliest.
    """
    if "exp" not in claims:
        return Reason.CLAIM_MISSING
    begins, expires, issued = claims.get("nbf", 0), claims["exp"], claims.get("iat", 0)
    if not (is_date(begins) and is_date(expires) and is_date(issued)):
        return Reason.CLAIM_INVALID
    return (max(begins, issued) if dated else begins), expires, issued


def check_values(
    claims: Mapping[str, Any], required: Iterable[tuple[ClaimPath, Sequence[Scalar]]]
) -> Reason | None:
    """Check that each of the claims is, or contains, one of its accepted values."""
    for path, accepted in required:
        if not claim_matches(path.find(claims), accepted):
            return Reason.CLAIM_REFUSED
    return None


def is_text(value: object) -> bool:
    """Whether this is a text of 1 to 255 characters without control characters."""
    if not isinstance(value, str):
        return False
    # What is printable has no control characters, and some other texts have none either.
    return 0 < len(value) <= 255 and (value.isprintable() or _TEXT.fullmatch(value) is not None)


def is_date(value: object) -> bool:
    """Whether this is a NumericDate (RFC 7519 section 2) up to the year 9999, and not a boolean."""
    # Not abs(): compiled, its result is a float, which an integer of 400 digits is not.
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return -MAX_DATE <= value <= MAX_DATE
