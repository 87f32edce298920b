"""Reports the contents of a token, and why the sidecar would refuse it. Pure.

A report shows header, claims and times, but never the signature: it is safe to share.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sidecar.auth.claim_checks import MAX_DATE
from sidecar.auth.reason import Reason
from sidecar.auth.verified import SessionMode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sidecar.auth.tokens import Verifier

TIMES: Final = ("iat", "nbf", "exp")
MEANINGS: Final = {
    Reason.TOKEN_TOO_LONG: "it is longer than max_token_size allows",
    Reason.TOKEN_MALFORMED: "it is not a JWT in canonical encoding, or has critical headers",
    Reason.TOKEN_TYPE: 'its "typ", or a claim that names its kind, is not that of an access token',
    Reason.ID_TOKEN: "it is an ID token: it tells a client who logged in, and permits nothing",
    Reason.LOGOUT_TOKEN: "it is a logout token: it tells a client that a user logged out",
    Reason.ALGORITHM: "its issuer has no key for its algorithm",
    Reason.ISSUER_UNKNOWN: 'its "iss" is not a configured issuer',
    Reason.KEY_UNKNOWN: 'its "kid" is not a known key of its issuer',
    Reason.SIGNATURE: "the configured key did not sign this header and these claims",
    Reason.AUDIENCE: 'its "aud" is not the configured audience',
    Reason.CLAIM_MISSING: 'it lacks "iss", "sub", "exp", "aud" or the user_claim of its issuer',
    Reason.CLAIM_INVALID: "a claim has the wrong type or length",
    Reason.CLAIM_REFUSED: "it lacks a value that the claims of its issuer's table require",
    Reason.EXPIRED: "it has expired",
    Reason.NOT_YET_VALID: 'its "nbf" or "iat" is in the future',
}

CONDITIONS: Final = {
    SessionMode.REQUIRED: ", if its session is live (this command does not look it up)",
    SessionMode.DENYLIST: ", unless it was revoked (this command does not look that up)",
    SessionMode.NONE: "",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to print, and whether the token would be accepted, apart from its session."""

    lines: tuple[str, ...]
    accepted: bool


def read(token: bytes) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return the header and the claims of a token; None if they are unreadable."""
    parts = [_decode(part) for part in token.split(b".")[:2]]
    if len(parts) < 2 or not all(isinstance(part, dict) for part in parts):
        return None
    return parts[0], parts[1]


def as_json(token: bytes, verdict: Verdict, more: Mapping[str, Any]) -> str:
    """Return what `show` and `judge` say, and more, as one JSON object; times in ISO 8601."""
    header, claims = read(token) or (None, None)
    times = {name: _iso(value) for name, value in _dates(claims or {})}
    return json.dumps(
        {
            "header": header,
            "claims": claims,
            "times": times,
            "accepted": verdict.accepted,
            "verdict": list(verdict.lines),
            **more,
        }
    )


def show(token: bytes, now: float) -> list[str]:
    """Return lines with the header, claims and times of a token, as far as they are readable."""
    found = read(token)
    if found is None:
        return ["not a JWT: expected JSON objects, base64url-encoded and separated by dots"]
    header, claims = found
    return [
        *("header", _indented(header)),
        *("claims", _indented(claims)),
        *_times(claims, now),
    ]


def judge(token: bytes, verifier: Verifier, now: float) -> Verdict:
    """Say whether a sidecar with this verifier accepts the token, and the exact reason if not."""
    found = verifier.verify_access(token, now)
    if not isinstance(found, Reason):
        accepted = "accepted" + CONDITIONS[found.session_mode]
        whose = f"user {json.dumps(found.user)} of issuer {json.dumps(found.issuer)}"
        return Verdict((whose, accepted), accepted=True)
    refused = f"refused, {found.label}: {MEANINGS[found]}"
    other = verifier.verify_refresh(token, now) if found is Reason.TOKEN_TYPE else found
    if not isinstance(other, Reason):
        lines = refused, "it is a valid refresh token, which only a refresh accepts"
        return Verdict(lines, accepted=False)
    return Verdict((refused,), accepted=False)


def _decode(part: bytes) -> Any:
    try:
        return json.loads(urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    except (Base64Error, ValueError, RecursionError):
        return None


def _indented(value: Any) -> str:
    """Return a value as JSON in ASCII, so a token cannot send control characters to a terminal."""
    return json.dumps(value, indent=2)


def _times(claims: Mapping[str, Any], now: float) -> Iterator[str]:
    found = _dates(claims)
    if found:
        yield "times"
    for name, value in found:
        yield f"  {name}  {_iso(value)}  {distance(value - now)}"


def _dates(claims: Mapping[str, Any]) -> list[tuple[str, float]]:
    return [(name, claims[name]) for name in TIMES if _is_date(claims.get(name))]


def _iso(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _is_date(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_DATE


def distance(seconds: float) -> str:
    """Return seconds from now in their two largest units: `in 14m 3s`, `12s ago`."""
    whole = abs(round(seconds))
    units = (("d", whole // 86400), ("h", whole // 3600 % 24), ("m", whole // 60 % 60))
    shown = [f"{count}{unit}" for unit, count in (*units, ("s", whole % 60)) if count][:2]
    text = " ".join(shown)
    if not text:
        return "now"
    return f"in {text}" if seconds > 0 else f"{text} ago"
