"""Verifies JWTs: every check is made here, only the signature's arithmetic is the library's.

RFC 7519, 8725 and 9068. A refusal is a returned Reason; no input raises. Keys, issuers and
algorithms come from configuration; a token chooses among them by name and brings nothing of its
own.
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
from sidecar.auth.session import Session, TimestampInterner
from sidecar.auth.strict_json import parse_object, read_again

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ACCESS_TYPES: Final = frozenset(("at+jwt",))  # RFC 9068 section 2.1
REFRESH_TYPES: Final = frozenset(("refresh+jwt",))
FOREIGN_TYPES: Final = frozenset(
    ("at+jwt", "jwt", "")
)  # "": no `typ` at all, as Okta and Cognito have it

MAX_DATE: Final = 253402300799  # the end of the year 9999; milliseconds for seconds are beyond it

# What sub, sid and jti may be: they name something, in logs and keys too.
_TEXT: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,255}")
_NO_KEYS: Final = KeyRing()


class SessionMode(StrEnum):
    """What a good token needs to count."""

    REQUIRED = "required"  # a live session
    DENYLIST = "denylist"  # that nobody has revoked it
    NONE = "none"  # nothing else


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerConfig:
    """What is expected of one issuer's tokens. An empty `issuer` means tokens that have no `iss`.

    `types` are lower-case `typ` values without `application/`. Empty `audiences` and `algorithms`
    are not checked; but a key's own algorithm always is.
    """

    issuer: str
    audiences: frozenset[str] = frozenset()  # one of them has to be among the token's
    algorithms: frozenset[str] = frozenset()
    types: frozenset[str] = ACCESS_TYPES
    session_mode: SessionMode = SessionMode.REQUIRED


# gc=False, here and for whatever is kept for each session: it can be in no cycle, and the garbage
# collector has nothing to walk over (see `collector`).
class Verified(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a good token says. `expires` and `not_before` have the leeway in them already."""

    issuer: str
    subject: str
    session_id: str  # empty when the token has no `sid`
    jti: str  # empty when there is none
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    payload: bytes  # all claims, as JSON: as objects they would take three times as much memory
    expires: float
    not_before: float
    session_mode: SessionMode

    def __repr__(self) -> str:
        return f"<Verified {self.subject!r} by {self.issuer!r}>"

    @property
    def claims(self) -> dict[str, Any]:
        """All claims, read anew each time."""
        return read_again(self.payload)

    def as_session(self, token_id: str) -> Session:
        """The session that this token claims to have."""
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
    """Whether this session is this credential's own: a copied or swapped value gives nothing."""
    if session.id != token_id:
        return False
    if not session.sub:  # written by another program: live, but only a token can say whose it is
        return verified is not None
    return verified is None or (
        session.sub == verified.subject and verified.session_id in {"", session.sid}
    )


class Verifier:
    """Verifies access and refresh tokens, each with its own keys: neither passes for the other.

    Immutable: other keys are another verifier. `leeway` is in seconds, for clocks that differ.
    """

    __slots__ = ("_access", "_access_keys", "_leeway", "_moments", "_refresh", "_refresh_keys")

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
        self._moments = TimestampInterner()

    def __repr__(self) -> str:
        return f"<Verifier {list(self._access)} {self._access_keys!r}>"

    def verify_access(self, token: bytes, now: float) -> Verified | Reason:
        """What an access token says, or why it is refused."""
        return self._verify(token, self._access, self._access_keys, now)

    def verify_refresh(self, token: bytes, now: float) -> Verified | Reason:
        """What a refresh token says, or why it is refused."""
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
            expires=self._moments[expires + self._leeway],
            not_before=self._moments[begins - self._leeway],
            session_mode=config.session_mode,
        )


def _split(token: bytes) -> list[bytes] | None:
    """Header, payload and signature (RFC 7515 section 7.1), or None."""
    if token.count(b".") != 2:
        return None
    parts = [raw for part in token.split(b".") if (raw := _decode(part)) is not None]
    return parts if len(parts) == 3 else None


def _decode(part: bytes) -> bytes | None:
    """What unpadded base64url stands for; None for any but its one spelling (RFC 7515 section 2).

    A second spelling of a token would have a second id, under which a revoked one could live on.
    """
    try:
        raw = urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except Base64Error:  # a character too many
        return None
    # Decoding passes over much that is not base64url; only encoding again tells.
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
    """Check header and signature (RFC 7515 section 4.1; jwk, jku, x5u, x5c are not looked at)."""
    # RFC 7515 section 4.1.11, RFC 7797: no extension is known here.
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
    """The token's type (RFC 7515 section 4.1.9), a media type: "" when absent, None when bad."""
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
    """RFC 7519 section 4.1.3: a text or a list of texts, compared exactly."""
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
    """RFC 7519 section 2: a number that is not beyond all clocks; a truth value is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_DATE
