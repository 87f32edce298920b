"""Verifies JWTs (RFC 7519, 8725 and 9068). The library only computes signatures.

An unacceptable token is a returned Reason; no input raises. Keys, issuers and algorithms come from
the configuration; a token only chooses among them by name.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar.auth.claims import roles_of, scopes_of
from sidecar.auth.credentials import MAX_TOKEN
from sidecar.auth.keys import KeyRing
from sidecar.auth.reason import Reason
from sidecar.auth.session import FOREVER, Session, TimestampInterner
from sidecar.auth.strict_json import parse_object, parse_trusted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ACCESS_TYPES: Final = frozenset(("at+jwt",))  # RFC 9068 section 2.1
REFRESH_TYPES: Final = frozenset(("refresh+jwt",))
FOREIGN_TYPES: Final = frozenset(
    ("at+jwt", "jwt", "")
)  # "" means that `typ` is missing, as in tokens of Okta and Cognito

MAX_DATE: Final = int(FOREVER)  # a time in milliseconds instead of seconds exceeds it

# The form of sub, sid and jti, which also appear in logs and keys.
_TEXT: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,255}")
_NO_KEYS: Final = KeyRing()


class SessionMode(StrEnum):
    """What a verified token needs to be accepted."""

    REQUIRED = "required"  # a live session
    DENYLIST = "denylist"  # no revocation
    NONE = "none"  # nothing else


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerConfig:
    """What the tokens of one issuer must satisfy. An empty `issuer` is for tokens without `iss`.

    `types` are lower-case `typ` values without `application/`. Empty `audiences` and `algorithms`
    are not checked, but a token's algorithm must always be that of its key.
    """

    issuer: str
    audiences: frozenset[str] = frozenset()  # the token must have at least one of them
    algorithms: frozenset[str] = frozenset()
    types: frozenset[str] = ACCESS_TYPES
    session_mode: SessionMode = SessionMode.REQUIRED


# gc=False, here and for everything kept for each session: such objects cannot form cycles, and the
# garbage collector need not traverse them (see `app.gc_tuning`).
class Verified(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The contents of a verified token. `expires` and `not_before` already include the leeway."""

    issuer: str
    subject: str
    session_id: str  # empty when the token has no `sid`
    jti: str  # empty when there is none
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    payload: bytes  # all claims as JSON, which takes a third of the memory of Python objects
    expires: float
    not_before: float
    session_mode: SessionMode

    def __repr__(self) -> str:
        return f"<Verified {self.subject!r} by {self.issuer!r}>"

    @property
    def claims(self) -> dict[str, Any]:
        """All claims, decoded from `payload` at each access."""
        return parse_trusted(self.payload)

    def as_session(self, token_id: str) -> Session:
        """Return a session with the subject, session id and expiry that this token states."""
        issued = self.claims.get("iat")
        return Session(
            id=token_id,
            sid=self.session_id,
            sub=self.subject,
            claims={},
            created=float(issued) if isinstance(issued, int | float) else 0.0,
            exp=self.expires,
        )


def belongs(session: Session, token_id: str, verified: Verified | None) -> bool:
    """Whether a session belongs to a credential. A copied or swapped session does not."""
    if session.id != token_id:
        return False
    if not session.sub:  # written by another program: live, but only the token names the user
        return verified is not None
    return verified is None or (
        session.sub == verified.subject and verified.session_id in {"", session.sid}
    )


class Verifier:
    """Verifies access and refresh tokens, with separate keys: neither passes for the other.

    Immutable: new keys need a new verifier. `leeway` allows for clock differences, in seconds.
    """

    __slots__ = ("_access", "_access_keys", "_leeway", "_refresh", "_refresh_keys", "_timestamps")

    def __init__(
        self,
        access: Iterable[IssuerConfig],
        access_keys: KeyRing,
        refresh: IssuerConfig | None = None,
        refresh_keys: KeyRing = _NO_KEYS,
        *,
        leeway: float = 5.0,
    ) -> None:
        self._access = {config.issuer: config for config in access}
        self._access_keys = access_keys
        self._refresh = {} if refresh is None else {refresh.issuer: refresh}
        self._refresh_keys = refresh_keys
        self._leeway = leeway
        self._timestamps = TimestampInterner()

    def __repr__(self) -> str:
        return f"<Verifier {list(self._access)} {self._access_keys!r}>"

    def verify_access(self, token: bytes, now: float) -> Verified | Reason:
        """Verify an access token: return its contents, or the reason for refusing it."""
        return self._verify(token, self._access, self._access_keys, now)

    def verify_refresh(self, token: bytes, now: float) -> Verified | Reason:
        """Verify a refresh token: return its contents, or the reason for refusing it."""
        return self._verify(token, self._refresh, self._refresh_keys, now)

    def _verify(
        self, token: bytes, issuers: Mapping[str, IssuerConfig], keys: KeyRing, now: float
    ) -> Verified | Reason:
        if len(token) > MAX_TOKEN:
            return Reason.TOKEN_TOO_LONG
        parts = _split(token)
        if parts is None:
            return Reason.TOKEN_MALFORMED
        header, claims, signature = parse_object(parts[0]), parse_object(parts[1]), parts[2]
        if header is None or claims is None:
            return Reason.TOKEN_MALFORMED
        config = _issuer_of(claims, issuers)
        if isinstance(config, Reason):
            return config
        refused = _check_signature(token, signature, header, config, keys)
        return refused or self._read_claims(claims, parts[1], config, now)

    def _read_claims(
        self, claims: Mapping[str, Any], payload: bytes, config: IssuerConfig, now: float
    ) -> Verified | Reason:
        refused = _check_texts(claims) or _check_audience(claims, config)
        if refused is not None:
            return refused
        if "exp" not in claims:
            return Reason.CLAIM_MISSING
        expires, begins = claims["exp"], claims.get("nbf", 0)
        if not (_is_date(expires) and _is_date(begins) and _is_date(claims.get("iat", 0))):
            return Reason.CLAIM_INVALID
        roles, scopes = roles_of(claims), scopes_of(claims)
        if roles is None or scopes is None:
            return Reason.CLAIM_INVALID
        if now >= expires + self._leeway:  # RFC 7519 section 4.1.4
            return Reason.EXPIRED
        if now < begins - self._leeway:  # RFC 7519 section 4.1.5
            return Reason.NOT_YET_VALID
        return Verified(
            issuer=config.issuer,
            subject=claims["sub"],
            session_id=claims.get("sid", ""),
            jti=claims.get("jti", ""),
            roles=roles,
            scopes=scopes,
            payload=payload,
            expires=self._timestamps[expires + self._leeway],
            not_before=self._timestamps[begins - self._leeway],
            session_mode=config.session_mode,
        )


def _split(token: bytes) -> list[bytes] | None:
    """Decode header, payload and signature (RFC 7515 section 7.1); None if malformed."""
    if token.count(b".") != 2:
        return None
    parts = [raw for part in token.split(b".") if (raw := _decode(part)) is not None]
    return parts if len(parts) == 3 else None


def _decode(part: bytes) -> bytes | None:
    """Decode unpadded base64url (RFC 7515 section 2); None if it is not the canonical encoding.

    A second encoding of the same token would have another token id, and could escape revocation.
    """
    try:
        raw = urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except Base64Error:  # wrong length
        return None
    # The decoder ignores characters outside base64url, so encode again and compare.
    return raw if urlsafe_b64encode(raw).rstrip(b"=") == part else None


def _issuer_of(
    claims: Mapping[str, Any], issuers: Mapping[str, IssuerConfig]
) -> IssuerConfig | Reason:
    issuer = claims.get("iss", "")
    if not isinstance(issuer, str):
        return Reason.CLAIM_INVALID
    config = issuers.get(issuer)
    if config is None:
        return Reason.ISSUER_UNKNOWN if "iss" in claims else Reason.CLAIM_MISSING
    return config


def _check_signature(
    token: bytes, signature: bytes, header: Mapping[str, Any], config: IssuerConfig, keys: KeyRing
) -> Reason | None:
    """Check header and signature (RFC 7515 section 4.1); jwk, jku, x5u and x5c are ignored."""
    # No extension is supported (RFC 7515 section 4.1.11, RFC 7797).
    if "crit" in header or "b64" in header:
        return Reason.TOKEN_MALFORMED
    if _type_of(header) not in config.types:
        return Reason.TOKEN_TYPE
    alg, kid = header.get("alg"), header.get("kid")
    if not isinstance(alg, str) or (config.algorithms and alg not in config.algorithms):
        return Reason.ALGORITHM
    if "kid" in header and not isinstance(kid, str):
        return Reason.TOKEN_MALFORMED
    found = keys.find(config.issuer, kid, alg)
    if isinstance(found, Reason):
        return found
    message = token[: token.rindex(b".")]
    return None if any(key.verify(message, signature) for key in found) else Reason.SIGNATURE


def _type_of(header: Mapping[str, Any]) -> str | None:
    """Return the media type in `typ` (RFC 7515 section 4.1.9): "" if absent, None if invalid."""
    kind = header.get("typ")
    if not isinstance(kind, str):
        return None if "typ" in header else ""
    return kind.lower().removeprefix("application/") or None


def _check_texts(claims: Mapping[str, Any]) -> Reason | None:
    if "sub" not in claims:
        return Reason.CLAIM_MISSING
    for name in ("sub", "sid", "jti"):
        value = claims.get(name, "-")
        if not isinstance(value, str) or not _TEXT.fullmatch(value):
            return Reason.CLAIM_INVALID
    return None


def _check_audience(claims: Mapping[str, Any], config: IssuerConfig) -> Reason | None:
    """Check `aud`: a string or a list of strings, compared exactly (RFC 7519 section 4.1.3)."""
    if "aud" not in claims:
        return Reason.CLAIM_MISSING if config.audiences else None
    value = claims["aud"]
    audiences = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in audiences):
        return Reason.CLAIM_INVALID
    if not config.audiences:
        return None
    return Reason.AUDIENCE if config.audiences.isdisjoint(audiences) else None


def _is_date(value: object) -> bool:
    """Whether this is a NumericDate (RFC 7519 section 2) up to the year 9999, and not a boolean."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_DATE
