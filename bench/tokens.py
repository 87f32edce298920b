"""Access tokens like the sidecar's own, and those of another issuer that signs with RS256.

Owns the keys and the claims. Must not know which proxy a token is for.
"""

from __future__ import annotations

import functools
import json
import secrets
import time
from enum import StrEnum
from itertools import cycle, islice
from typing import TYPE_CHECKING, NamedTuple

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import HMACAlgorithm, RSAAlgorithm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jwt.types import JWKDict

ISSUER = AUDIENCE = "auth-sidecar"
OTHER_ISSUER = "https://id.example.com/realms/bench"
TOKEN_SECONDS = 12 * 3600
KEY_ID = "bench"
KEY_BITS = 2048


class Algorithm(StrEnum):
    """How a token is signed."""

    HS256 = "HS256"
    RS256 = "RS256"


class Key(NamedTuple):
    """What signs and what verifies the tokens of an issuer, as PyJWT takes it."""

    issuer: str
    signing: str | rsa.RSAPrivateKey
    jwk: JWKDict


def user_names(number: int) -> tuple[str, ...]:
    """The names of this many users."""
    return tuple(f"user-{n:04}" for n in range(number))


class TokenMaker:
    """Signs tokens of `users`; `secret` is that of the sidecar's own.

    An RSA key is made when it is needed.
    """

    def __init__(self, secret: str, users: Sequence[str]) -> None:
        self.users = users
        self._secret = secret
        self._keys: dict[Algorithm, Key] = {}
        self._of_users: dict[tuple[Algorithm, int], tuple[str, ...]] = {}

    def __repr__(self) -> str:
        return f"<TokenMaker for {ISSUER} and {OTHER_ISSUER}>"

    @functools.cached_property
    def _private_key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)

    def key(self, algorithm: Algorithm) -> Key:
        """The key of an algorithm, always the same one."""
        if algorithm not in self._keys:
            self._keys[algorithm] = self._made(algorithm)
        return self._keys[algorithm]

    def _made(self, algorithm: Algorithm) -> Key:
        if algorithm is Algorithm.HS256:
            jwk = HMACAlgorithm.to_jwk(self._secret, as_dict=True)
            return Key(ISSUER, self._secret, {**jwk, "alg": algorithm, "kid": KEY_ID})
        jwk = RSAAlgorithm.to_jwk(self._private_key.public_key(), as_dict=True)
        public = {name: jwk[name] for name in ("kty", "n", "e")}
        public |= {"alg": algorithm, "kid": KEY_ID, "use": "sig"}
        return Key(OTHER_ISSUER, self._private_key, public)

    def key_set(self, algorithm: Algorithm) -> str:
        """The JWK Set (RFC 7517) that verifies tokens; for HS256 it contains the secret."""
        return json.dumps({"keys": [self.key(algorithm).jwk]})

    def public_pem(self) -> str:
        """The public key of RS256 tokens in PEM."""
        public = self._private_key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return public.decode()

    def mint(
        self,
        user: str = "alice",
        algorithm: Algorithm = Algorithm.HS256,
        *,
        life: int = TOKEN_SECONDS,
    ) -> str:
        """A token that is valid for `life` seconds; a negative life has ended already."""
        now = int(time.time()) + min(0, 2 * life)
        key = self.key(algorithm)
        claims = {
            "iss": key.issuer,
            "aud": AUDIENCE,
            "sub": user,
            "sid": secrets.token_urlsafe(16),
            "jti": secrets.token_urlsafe(16),
            "iat": now,
            "nbf": now,
            "exp": now + abs(life),
            "roles": ["user"],
        }
        headers = {"typ": "at+jwt"} | ({} if algorithm is Algorithm.HS256 else {"kid": KEY_ID})
        return jwt.encode(claims, key.signing, algorithm=algorithm, headers=headers)

    def of_users(self, algorithm: Algorithm, *, life: int = TOKEN_SECONDS) -> tuple[str, ...]:
        """One token of each of the users, always the same ones."""
        if (algorithm, life) not in self._of_users:
            self._of_users[algorithm, life] = tuple(
                self.mint(user, algorithm, life=life) for user in self.users
            )
        return self._of_users[algorithm, life]

    def expired(self, algorithm: Algorithm) -> tuple[str, ...]:
        """One token of each of the users, all of which have expired."""
        return self.of_users(algorithm, life=-TOKEN_SECONDS)

    def fresh(self, algorithm: Algorithm, number: int) -> list[str]:
        """New tokens, of the users in turn."""
        return [self.mint(user, algorithm) for user in islice(cycle(self.users), number)]
