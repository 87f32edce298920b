"""Verifies JWTs (RFC 7519, 8725 and 9068). The library only computes signatures.

An unacceptable token is a returned Reason; no input raises. Keys, issuers and algorithms come from
the configuration; a token only chooses among them by name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from sidecar.auth.claim_checks import (
    check_audience,
    check_ids,
    check_values,
    find_dates,
    find_name,
    find_subject,
)
from sidecar.auth.claims import display_name, roles_of, scopes_of
from sidecar.auth.compact import decode_part
from sidecar.auth.credentials import MAX_TOKEN
from sidecar.auth.keys import KeyRing
from sidecar.auth.known_headers import KnownHeaders
from sidecar.auth.reason import Reason
from sidecar.auth.session import TimestampInterner
from sidecar.auth.signature_checks import check_header, find_signing_key
from sidecar.auth.strict_json import parse_object
from sidecar.auth.token_kind import find_other_kind
from sidecar.auth.verified import SessionMode, Verified

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sidecar.auth.claims import Scalar
    from sidecar.auth.keys import Key
    from sidecar.claim_path import ClaimPath

ACCESS_TYPES: Final = frozenset(("at+jwt",))  # RFC 9068 section 2.1
REFRESH_TYPES: Final = frozenset(("refresh+jwt",))
# "" means that `typ` is missing, as in tokens of Okta and Cognito.
FOREIGN_TYPES: Final = frozenset(("at+jwt", "jwt", ""))

_NO_KEYS: Final = KeyRing()


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerConfig:
    """What the tokens of one issuer must satisfy. An empty `issuer` is for tokens without `iss`.

    `types` are lower-case `typ` values without `application/`. Empty `audiences` and `algorithms`
    are not checked, but a token's algorithm must always be that of its key. `foreign` means that
    another service signs the tokens: it also signs other kinds of tokens, of which only ID tokens
    can be accepted (`id_tokens`), and its users may choose their own names. The application knows
    them by their subject, or by `user_claim`. Where `claims` are given, its tokens must have them.

    The claims of a foreign issuer are where its paths say. Every token must have those that decide
    who it is for and about; `roles_claims` and `scopes_claims` add up.
    """

    issuer: str
    audiences: frozenset[str] = frozenset()  # the token must have at least one of them
    algorithms: frozenset[str] = frozenset()
    types: frozenset[str] = ACCESS_TYPES
    session_mode: SessionMode = SessionMode.REQUIRED
    foreign: bool = False
    id_tokens: bool = False
    claims: tuple[tuple[ClaimPath, tuple[Scalar, ...]], ...] = ()  # each with accepted values
    audience_claim: ClaimPath | None = None  # None: aud
    subject_claim: ClaimPath | None = None  # None: sub
    user_claim: ClaimPath | None = None  # None: the subject
    roles_claims: tuple[ClaimPath, ...] = ()  # empty: as `claims.roles_of` finds them
    scopes_claims: tuple[ClaimPath, ...] = ()


class Verifier:
    """Verifies access and refresh tokens, with separate keys: neither passes for the other.

    New keys need a new verifier. `leeway` allows for clock differences, in seconds. Tokens of more
    than `max_token` octets are refused. `issuer` is the sidecar's own, that of refresh tokens.
    `issuers`, by name (without `iss`: ""), and `keys` are those of access tokens.
    """

    __slots__ = (
        *("_ahead", "_headers", "_own", "_refresh", "_refresh_keys", "_timestamps"),
        *("issuer", "issuers", "keys", "leeway", "max_token"),
    )

    def __init__(
        self,
        access: Iterable[IssuerConfig],
        access_keys: KeyRing,
        refresh: IssuerConfig | None = None,
        refresh_keys: KeyRing = _NO_KEYS,
        *,
        leeway: float = 5.0,
        max_token: int = MAX_TOKEN,
    ) -> None:
        self.issuers = {config.issuer: config for config in access}
        self.keys = access_keys
        self._refresh = {} if refresh is None else {refresh.issuer: refresh}
        self._refresh_keys = refresh_keys
        self.leeway = leeway
        self.max_token = max_token
        self._headers = KnownHeaders()
        self._timestamps = TimestampInterner()
        self._ahead: dict[str, float] = {}  # by issuer
        self.issuer = "" if refresh is None else refresh.issuer
        # With `jwks_url`, another service issues tokens under this sidecar's name as well.
        self._own = _as_issued_here(self.issuers.get(self.issuer))

    def __repr__(self) -> str:
        return f"<Verifier {list(self.issuers)} {self.keys!r}>"

    def verify_access(self, token: bytes, now: float) -> Verified | Reason:
        """Verify an access token: return its contents, or the reason for refusing it."""
        return self._verify(token, self.issuers, self.keys, now)

    def verify_refresh(self, token: bytes, now: float) -> Verified | Reason:
        """Verify a refresh token: return its contents, or the reason for refusing it."""
        return self._verify(token, self._refresh, self._refresh_keys, now)

    def clock_ahead(self, issuer: str) -> float:
        """Return how many seconds the issuer's clock is ahead, by the tokens verified so far."""
        return self._ahead.get(issuer, 0.0)

    def _verify(
        self, token: bytes, issuers: Mapping[str, IssuerConfig], keys: KeyRing, now: float
    ) -> Verified | Reason:
        if len(token) > self.max_token:
            return Reason.TOKEN_TOO_LONG
        parts = token.split(b".", 3)
        if len(parts) != 3:
            return Reason.TOKEN_MALFORMED
        header = self._headers.parse(parts[0])
        signature = decode_part(parts[2])
        if header is None or signature is None:
            return Reason.TOKEN_MALFORMED
        # A token forged for a shared secret costs one code and no JSON. For other algorithms,
        # reading the claims is the cheaper check, so it comes first.
        presumed = _secret_holder(header, issuers, keys)
        key = None if presumed is None else _find_key(token, signature, header, keys, presumed)
        if key is Reason.SIGNATURE:
            return key
        payload = decode_part(parts[1])
        claims = parse_object(payload) if payload else None
        if payload is None or claims is None:
            return Reason.TOKEN_MALFORMED
        config = find_issuer(claims, issuers)
        if isinstance(config, Reason):
            return config
        if key is None or config is not presumed:
            key = _find_key(token, signature, header, keys, config)
        if isinstance(key, Reason):
            return key
        self._headers.remember(parts[0], header)
        local = key.can_sign and config.issuer == self.issuer
        config = self.as_signed_by(key, config)
        return self._read_claims(claims, payload, config, now, local=local)

    def as_signed_by(self, key: Key, config: IssuerConfig) -> IssuerConfig:
        """Return what a token of this issuer must satisfy if this key signed it."""
        shared = config.foreign and config.issuer == self.issuer
        return self._own if shared and key.can_sign and self._own is not None else config

    def _read_claims(
        self,
        claims: Mapping[str, Any],
        payload: bytes,
        config: IssuerConfig,
        now: float,
        *,
        local: bool,
    ) -> Verified | Reason:
        if config.foreign:
            other_kind = find_other_kind(claims, id_tokens=config.id_tokens)
            if other_kind is not None:
                return other_kind
        subject = find_subject(claims, config.subject_claim)
        if isinstance(subject, Reason):
            return subject
        refused = (
            check_ids(claims)
            or check_audience(claims, config.audiences, config.audience_claim)
            or check_values(claims, config.claims)
        )
        if refused is not None:
            return refused
        user = find_user(claims, subject, config)
        if isinstance(user, Reason):
            return user
        # Otherwise the token would outlive a revocation of everything issued before now. With a
        # session of its own it cannot, and a clock that was set back must end no login.
        dated = config.foreign or config.session_mode is not SessionMode.REQUIRED
        dates = find_dates(claims, dated=dated)
        if isinstance(dates, Reason):
            return dates
        begins, expires, issued = dates
        if now >= expires + self.leeway:  # RFC 7519 section 4.1.4
            return Reason.EXPIRED
        if now < begins - self.leeway:  # RFC 7519 section 4.1.5
            return Reason.NOT_YET_VALID
        if dated and issued > now:
            self._ahead[config.issuer] = max(self.clock_ahead(config.issuer), issued - now)
        return Verified(
            issuer=config.issuer,
            local=local,
            subject=subject,
            user=user,
            session_id=claims.get("sid", ""),
            jti=claims.get("jti", ""),
            roles=roles_of(claims, config.roles_claims),
            scopes=scopes_of(claims, config.scopes_claims),
            payload=payload,
            expires=self._timestamps[expires + self.leeway],
            not_before=self._timestamps[begins - self.leeway],
            issued=self._timestamps[float(issued)],
            session_mode=config.session_mode,
        )


def find_issuer(
    claims: Mapping[str, Any], issuers: Mapping[str, IssuerConfig]
) -> IssuerConfig | Reason:
    """Return the issuer that `iss` names exactly (RFC 7519 section 4.1.1)."""
    issuer = claims.get("iss", "")
    if not isinstance(issuer, str):
        return Reason.CLAIM_INVALID
    config = issuers.get(issuer)
    if config is None:
        return Reason.ISSUER_UNKNOWN if "iss" in claims else Reason.CLAIM_MISSING
    return config


def _secret_holder(
    header: Mapping[str, Any], issuers: Mapping[str, IssuerConfig], keys: KeyRing
) -> IssuerConfig | None:
    """Return the only issuer that a token with this header can be of; None if that is open.

    An issuer that signs with a shared secret has a key from the start, because none can be fetched.
    """
    alg = header.get("alg")
    issuer = keys.secret_issuers.get(alg) if isinstance(alg, str) else None
    return None if issuer is None else issuers.get(issuer)


def _find_key(
    token: bytes,
    signature: bytes,
    header: Mapping[str, Any],
    keys: KeyRing,
    config: IssuerConfig,
) -> Key | Reason:
    """Return the key of this issuer that signed the token, if its header is in order."""
    refused = check_header(header, config.types, foreign=config.foreign)
    if refused is not None:
        return refused
    return find_signing_key(
        *(token, signature, header, keys), issuer=config.issuer, algorithms=config.algorithms
    )


def find_user(claims: Mapping[str, Any], subject: str, config: IssuerConfig) -> str | Reason:
    """Return the name that the application works with.

    Without the chosen claim there is none: the subject could be the name of another user.
    """
    if not config.foreign:
        return display_name(claims, subject)
    return subject if config.user_claim is None else find_name(claims, config.user_claim)


def _as_issued_here(config: IssuerConfig | None) -> IssuerConfig | None:
    """Return what this sidecar's own tokens must satisfy, whose claims are where it put them."""
    if config is None:
        return None
    return replace(
        config,
        foreign=False,
        claims=(),
        audience_claim=None,
        subject_claim=None,
        user_claim=None,
        roles_claims=(),
        scopes_claims=(),
    )
