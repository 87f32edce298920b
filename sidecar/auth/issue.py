"""Issues access and refresh tokens, and seals the pair that follows a used refresh token.

Pure: the caller brings the time, the ids and the nonce. Keeps no record of what it has issued.
"""

from __future__ import annotations

import math
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar.auth.claims import SCOPES, scopes_of
from sidecar.auth.credentials import MAX_TOKEN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from sidecar.auth.keys import Key

# What the sidecar alone says; a user's own claims of these names are left out.
RESERVED: Final = frozenset(
    ("iss", "sub", "aud", "exp", "nbf", "iat", "jti", "sid", "client_id", "typ", *SCOPES)
)

NONCE_BYTES: Final = 12
_SEAL: Final = b"auth-sidecar refresh successor 1"


class Issuer:
    """Issues the tokens of one issuer. Times are seconds; an empty `audience` is left out.

    Raises ValueError when a key cannot sign, or when both kinds of token would share one.
    """

    __slots__ = (
        *("_access_header", "_audience", "_refresh_header", "_refresh_key", "_signing_key"),
        *("access_ttl", "issuer", "max_age", "refresh_ttl"),
    )

    def __init__(
        self,
        signing_key: Key,
        refresh_key: Key,
        *,
        issuer: str,
        audience: str = "",
        access_ttl: float = 900.0,
        refresh_ttl: float = 604800.0,
        max_age: float = math.inf,
    ) -> None:
        if not (signing_key.can_sign and refresh_key.can_sign):
            raise ValueError("keys that can sign")
        if signing_key.kid == refresh_key.kid:
            raise ValueError(
                "another key, with another id, for refresh tokens than for access ones"
            )
        self._signing_key = signing_key
        self._refresh_key = refresh_key
        self._access_header = _header(signing_key, "at+jwt")
        self._refresh_header = _header(refresh_key, "refresh+jwt")
        self._audience = audience
        self.issuer = issuer
        self.access_ttl = access_ttl
        self.refresh_ttl = refresh_ttl
        self.max_age = max_age

    def __repr__(self) -> str:
        return f"<Issuer {self.issuer!r} {self._signing_key!r}>"

    def access_expires(self, now: float, created: float | None = None) -> float:
        """When an access token issued now ends: never later than `max_age` after the login."""
        return self._expires(self.access_ttl, now, created)

    def refresh_expires(self, now: float, created: float | None = None) -> float:
        """When a refresh token issued now ends: never later than `max_age` after the login."""
        return self._expires(self.refresh_ttl, now, created)

    def access(
        self,
        subject: str,
        sid: str,
        claims: Mapping[str, Any],
        now: float,
        jti: str,
        *,
        created: float | None = None,
    ) -> str:
        """An access token (RFC 9068); `claims` holds roles, scopes and others.

        `created` is the time of the login. Raises ValueError when the token comes out longer than
        the sidecar itself would accept.
        """
        body = {name: value for name, value in claims.items() if name not in RESERVED}
        body.setdefault("roles", [])
        body["scope"] = " ".join(scopes_of(claims) or ())
        body["client_id"] = self.issuer
        body |= self._registered(subject, sid, now, jti, self.access_expires(now, created))
        return _sign(self._signing_key, self._access_header, body)

    def refresh(
        self, subject: str, sid: str, now: float, jti: str, *, created: float | None = None
    ) -> str:
        """A refresh token; it says whose it is and nothing of what they may do."""
        body = self._registered(subject, sid, now, jti, self.refresh_expires(now, created))
        return _sign(self._refresh_key, self._refresh_header, body)

    def _expires(self, ttl: float, now: float, created: float | None) -> float:
        end = now + ttl if created is None else min(now + ttl, created + self.max_age)
        return float(math.ceil(end))  # whole seconds: some verifiers take no others

    def _registered(
        self, subject: str, sid: str, now: float, jti: str, expires: float
    ) -> dict[str, Any]:
        # No `nbf`: it would say what `iat` says, and a clock that is set back would refuse whoever
        # has just come (RFC 9068 section 2.2 asks for none).
        body: dict[str, Any] = {"iss": self.issuer, "sub": subject, "sid": sid, "jti": jti}
        if self._audience:
            body["aud"] = self._audience
        return body | {"iat": int(now), "exp": int(expires)}


def seal(used_token: bytes, plaintext: bytes, nonce: bytes) -> bytes:
    """Encrypt with a key that only the used refresh token gives: nonce, then AES-256-GCM's output.

    A nonce (12 bytes) serves once for one token.
    """
    if len(nonce) != NONCE_BYTES:
        raise ValueError(f"expected a nonce of {NONCE_BYTES} bytes, got {len(nonce)}")
    return nonce + _cipher(used_token).encrypt(nonce, plaintext, _SEAL)


def unseal(used_token: bytes, sealed: bytes) -> bytes | None:
    """What `seal` was given, or None when it was with another token or has been changed since."""
    nonce, ciphertext = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
    if len(nonce) < NONCE_BYTES:
        return None
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 (see _cipher)

    try:
        return _cipher(used_token).decrypt(nonce, ciphertext, _SEAL)
    except InvalidTag:
        return None


def _cipher(used_token: bytes) -> AESGCM:
    # 7 MiB, and 20 ms of the first refresh: a sidecar that refreshes nothing does without.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415

    return AESGCM(HKDF(SHA256(), 32, None, _SEAL).derive(used_token))


def _header(key: Key, kind: str) -> bytes:
    return _encode(msgspec.json.encode({"alg": key.alg, "kid": key.kid, "typ": kind}))


def _sign(key: Key, header: bytes, body: Mapping[str, Any]) -> str:
    message = header + b"." + _encode(msgspec.json.encode(body))
    token = message + b"." + _encode(key.sign(message))
    if len(token) > MAX_TOKEN:
        raise ValueError(f"a token of {len(token)} bytes: its claims are too many or too long")
    return token.decode("ascii")


def _encode(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")
