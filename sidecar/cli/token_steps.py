"""Says step by step what a sidecar makes of a token, and why. Pure.

Each step is checked by itself, so that one report shows everything that is wrong. The verdict is
not given here: the verifier stops at the first problem. Values of the token appear as JSON in
ASCII; the token itself and its signature never do.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sidecar.auth.claim_checks import (
    check_audience,
    check_ids,
    check_values,
    find_dates,
    find_subject,
)
from sidecar.auth.claims import ROLES, SCOPES, roles_of, scopes_of
from sidecar.auth.compact import split_token
from sidecar.auth.reason import Reason
from sidecar.auth.signature_checks import check_header, find_signing_key
from sidecar.auth.strict_json import parse_object
from sidecar.auth.token_kind import find_other_kind
from sidecar.auth.tokens import find_issuer, find_user
from sidecar.auth.verified import SessionMode
from sidecar.claim_path import ClaimPath
from sidecar.cli.token_report import MEANINGS, distance

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sidecar.auth.tokens import IssuerConfig, Verifier

_LISTED: Final = 20  # names in one line
_SHOWN: Final = 200  # characters of a value


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that the sidecar looks at. `passed` is None for what can refuse no token."""

    name: str
    passed: bool | None
    detail: str

    def line(self) -> str:
        """Return the step as one line of text."""
        mark = {True: "ok", False: "NO", None: "-"}[self.passed]
        return f"  {mark:2}  {self.name:<8}  {self.detail}"


def steps_of(token: bytes, verifier: Verifier, now: float) -> Iterator[Step]:
    """Yield the steps as far as the token can be read and its issuer is known."""
    size = len(token)
    limit = f"{size} bytes, of at most {verifier.max_token} (max_token_size)"
    yield Step("size", size <= verifier.max_token, limit)
    parts = split_token(token)
    header = parse_object(parts[0]) if parts else None
    claims = parse_object(parts[1]) if parts else None
    if parts is None or header is None or claims is None:
        yield Step("form", False, MEANINGS[Reason.TOKEN_MALFORMED])
        return
    yield Step("form", True, "a JWT in canonical encoding")
    config = find_issuer(claims, verifier.issuers)
    issuer = _shown(claims.get("iss"))
    if isinstance(config, Reason):
        known = ", ".join(map(json.dumps, verifier.issuers))
        yield Step("issuer", False, f"{issuer} is not one of {known}")
        return
    key = find_signing_key(
        *(token, parts[2], header, verifier.keys),
        issuer=config.issuer,
        algorithms=config.algorithms,
    )
    shared = config.foreign and config.issuer == verifier.issuer
    if not isinstance(key, Reason):
        config = verifier.as_signed_by(key, config)
    whose = "another service's" if config.foreign else "this sidecar's own"
    unsure = " or this sidecar's own" if shared and isinstance(key, Reason) else ""
    yield Step("issuer", True, f"{issuer}: {whose}{unsure}")
    yield from _kind(header, claims, config)
    yield _key(header, key)
    yield from _claims(claims, config, verifier, now)


def _kind(
    header: Mapping[str, Any], claims: Mapping[str, Any], config: IssuerConfig
) -> Iterator[Step]:
    refused = check_header(header, config.types, foreign=config.foreign)
    if refused is None and config.foreign:
        refused = find_other_kind(claims, id_tokens=config.id_tokens)
    typ = _shown(header["typ"]) if "typ" in header else "absent"
    accepted = f'an access token; "typ" is {typ}'
    yield Step("kind", refused is None, accepted if refused is None else _why(refused))


def _key(header: Mapping[str, Any], key: object) -> Step:
    kid = f"kid {_shown(header['kid'])}" if "kid" in header else "no kid"
    named = f"{_shown(header.get('alg'))}, {kid}"
    if isinstance(key, Reason):
        return Step("key", False, f"{named}: {_why(key)}")
    return Step("key", True, f"{named}: a known key made the signature")


def _claims(
    claims: Mapping[str, Any], config: IssuerConfig, verifier: Verifier, now: float
) -> Iterator[Step]:
    yield _audience(claims, config)
    for path, accepted in config.claims:
        values = " or ".join(map(json.dumps, accepted))
        found = f"{_place(path, claims)}; expected {values}"
        yield Step("claims", check_values(claims, [(path, accepted)]) is None, found)
    yield _times(claims, config, verifier, now)
    if check_ids(claims) is not None:
        yield Step("ids", False, '"sid" or "jti" is no text of 1 to 255 characters')
    where = config.subject_claim or ClaimPath("sub")
    subject = find_subject(claims, config.subject_claim)
    if isinstance(subject, Reason):
        yield Step("subject", False, f"{_place(where, claims)}: {_why(subject)}")
    else:
        yield Step("subject", True, f"{_shown(subject)}, from {where.text}")
        yield _user(claims, subject, config)
    paths = config.roles_claims or (ClaimPath(ROLES),)
    givers = [path for path in paths if roles_of(claims, [path])]
    yield _names("roles", roles_of(claims, config.roles_claims), givers or paths, claims)
    paths = config.scopes_claims or tuple(map(ClaimPath, SCOPES))
    givers = [path for path in paths if scopes_of(claims, [path])]
    if not config.scopes_claims:
        givers = givers[:1]
    yield _names("scopes", scopes_of(claims, config.scopes_claims), givers or paths, claims)
    yield Step("session", None, _SESSIONS[config.session_mode])


def _audience(claims: Mapping[str, Any], config: IssuerConfig) -> Step:
    refused = check_audience(claims, config.audiences, config.audience_claim)
    found = _place(config.audience_claim or ClaimPath("aud"), claims)
    expected = " or ".join(map(json.dumps, sorted(config.audiences))) or "any"
    return Step("audience", refused is None, f"{found}; expected {expected}")


def _times(claims: Mapping[str, Any], config: IssuerConfig, verifier: Verifier, now: float) -> Step:
    dated = config.foreign or config.session_mode is not SessionMode.REQUIRED
    dates = find_dates(claims, dated=dated)
    if isinstance(dates, Reason):
        return Step("times", False, _why(dates))
    begins, expires, _ = dates
    leeway = f"(leeway {verifier.leeway:g} s)"
    if now >= expires + verifier.leeway:
        return Step("times", False, f"expired {distance(expires - now)} {leeway}")
    if now < begins - verifier.leeway:
        return Step("times", False, f"valid only {distance(begins - now)} {leeway}")
    return Step("times", True, f"expires {distance(expires - now)} {leeway}")


def _user(claims: Mapping[str, Any], subject: str, config: IssuerConfig) -> Step:
    user = find_user(claims, subject, config)
    if isinstance(user, Reason):
        where = config.user_claim or ClaimPath("sub")
        return Step("user", False, f"{_place(where, claims)}: {_why(user)}")
    if not config.foreign:
        return Step("user", True, f"{_shown(user)}, a name that this sidecar issued")
    chosen = "the subject" if config.user_claim is None else f"from {config.user_claim.text}"
    return Step("user", True, f"{_shown(user)}, {chosen}")


def _names(
    step: str, found: Sequence[str], paths: Sequence[ClaimPath], claims: Mapping[str, Any]
) -> Step:
    if not found:
        places = ", ".join(_place(path, claims) for path in paths)
        return Step(step, None, f"none: {places}")
    listed = ", ".join(map(_shown, found[:_LISTED]))
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    return Step(step, None, f"{listed}{more}, from {', '.join(path.text for path in paths)}")


_SESSIONS: Final = {
    SessionMode.REQUIRED: "must be live; not looked up here",
    SessionMode.DENYLIST: "not needed, but the token may have been revoked; not looked up here",
    SessionMode.NONE: "not needed",
}


def _why(reason: Reason) -> str:
    return f"{reason.label}: {MEANINGS[reason]}"


def _place(path: ClaimPath, claims: Mapping[str, Any]) -> str:
    """A claim with the value that it has."""
    value = path.find(claims)
    return f"{path.text} is {'absent' if value is None else _shown(value)}"


def _shown(value: object) -> str:
    """A value as JSON in ASCII, so that it cannot send control characters to a terminal."""
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
