"""What is in a token and why it would be refused, in words for whoever has to find out.

Pure: shows header, claims and times, never the signature, so that what it says can be passed on.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sidecar.auth.reason import Reason
from sidecar.auth.tokens import MAX_DATE, SessionMode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sidecar.auth.tokens import Verifier

TIMES: Final = ("iat", "nbf", "exp")
MEANINGS: Final = {
    Reason.TOKEN_TOO_LONG: "it is longer than 8 KiB",
    Reason.TOKEN_MALFORMED: "it is not a JWT in its one canonical form, or has critical headers",
    Reason.TOKEN_TYPE: 'its "typ" is not that of an access token ("at+jwt")',
    Reason.ALGORITHM: "its algorithm is none that its issuer's keys are for",
    Reason.ISSUER_UNKNOWN: 'its "iss" is no configured issuer',
    Reason.KEY_UNKNOWN: 'its "kid" is no key known here (keys at a jwks_url are not fetched here)',
    Reason.SIGNATURE: "the signature is not of this header, these claims and the configured key",
    Reason.AUDIENCE: 'its "aud" is not the configured audience',
    Reason.CLAIM_MISSING: 'it lacks one of "iss", "sub", "exp" and "aud"',
    Reason.CLAIM_INVALID: "a claim has the wrong type or length",
    Reason.EXPIRED: "its time is over",
    Reason.NOT_YET_VALID: "its time has not come",
}

NEEDED: Final = {
    SessionMode.REQUIRED: ", if its session is live (sessions are not looked up here)",
    SessionMode.DENYLIST: ", unless it was revoked (revocations are not looked up here)",
    SessionMode.NONE: "",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to print, and whether the token would be accepted as far as it alone tells."""

    lines: tuple[str, ...]
    accepted: bool


def show(token: bytes, now: float) -> list[str]:
    """Header, claims and times of a token, as far as they can be read."""
    parts = [_decode(part) for part in token.split(b".")[:2]]
    if len(parts) < 2 or not all(isinstance(part, dict) for part in parts):
        return ["not a JWT: no JSON objects, encoded and joined by dots, can be made out"]
    header, claims = parts
    return [
        *("header", _indented(header)),
        *("claims", _indented(claims)),
        *_times(claims, now),
    ]


def judge(token: bytes, verifier: Verifier, now: float) -> Verdict:
    """Whether a sidecar with this verifier accepts the token, and the exact reason if not."""
    found = verifier.verify_access(token, now)
    if not isinstance(found, Reason):
        return Verdict(("accepted" + NEEDED[found.session_mode],), accepted=True)
    refused = f"refused, {found.label}: {MEANINGS[found]}"
    other = verifier.verify_refresh(token, now) if found is Reason.TOKEN_TYPE else found
    if not isinstance(other, Reason):
        lines = refused, "it is a good refresh token, for POST /auth/refresh alone"
        return Verdict(lines, accepted=False)
    return Verdict((refused,), accepted=False)


def _decode(part: bytes) -> Any:
    try:
        return json.loads(urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    except (Base64Error, ValueError, RecursionError):
        return None


def _indented(value: Any) -> str:
    """JSON in ASCII: whatever a token holds does nothing to a terminal."""
    return json.dumps(value, indent=2)


def _times(claims: Mapping[str, Any], now: float) -> Iterator[str]:
    found = [(name, claims[name]) for name in TIMES if _is_date(claims.get(name))]
    if found:
        yield "times"
    for name, value in found:
        moment = datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        yield f"  {name}  {moment}  {_distance(value - now)}"


def _is_date(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_DATE


def _distance(seconds: float) -> str:
    """`in 14m 3s`, `12s ago`: the two largest units."""
    whole = abs(round(seconds))
    units = (("d", whole // 86400), ("h", whole // 3600 % 24), ("m", whole // 60 % 60))
    shown = [f"{count}{unit}" for unit, count in (*units, ("s", whole % 60)) if count][:2]
    text = " ".join(shown)
    if not text:
        return "now"
    return f"in {text}" if seconds > 0 else f"{text} ago"
