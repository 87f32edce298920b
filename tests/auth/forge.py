"""Makes keys and tokens for the tests, valid and invalid ones, byte by byte.

Independent of the code under test: signatures come from PyJWT's algorithms or the standard library.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from enum import Enum, auto
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import HealthCheck, settings

from sidecar.wire.head import RequestHead

if TYPE_CHECKING:
    from collections.abc import Mapping

    PrivateKey = (
        rsa.RSAPrivateKey
        | ec.EllipticCurvePrivateKey
        | ed25519.Ed25519PrivateKey
        | ed448.Ed448PrivateKey
    )

# On a busy machine an example may take long, which does not indicate a fault.
unhurried: Final = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

NOW: Final = 1_800_000_000.0
ISSUER: Final = "https://issuer.test"
AUDIENCE: Final = "shop"
SECRET: Final = b"an access secret of 32 bytes...."
REFRESH_SECRET: Final = b"a refresh secret of 32 bytes...."

HEADER: Final[Mapping[str, Any]] = {"alg": "HS256", "typ": "at+jwt"}
CLAIMS: Final[Mapping[str, Any]] = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "sub": "alice",
    "sid": "s1",
    "jti": "t1",
    "iat": NOW,
    "nbf": NOW,
    "exp": NOW + 900,
    "roles": ["user"],
    "scope": "read write",
}


class Gone(Enum):
    """What leaves a member out, as a value."""

    GONE = auto()


GONE: Final = Gone.GONE


@cache
def private_key(alg: str) -> PrivateKey:
    """Return a private key for this algorithm, the same one during the whole test run."""
    if alg[:2] in {"RS", "PS"}:
        return rsa.generate_private_key(65537, 2048)
    if alg in {"EdDSA", "Ed25519"}:
        return ed25519.Ed25519PrivateKey.generate()
    if alg == "Ed448":
        return ed448.Ed448PrivateKey.generate()
    curves: dict[str, ec.EllipticCurve] = {
        "ES256": ec.SECP256R1(),
        "ES384": ec.SECP384R1(),
        "ES512": ec.SECP521R1(),
        "ES256K": ec.SECP256K1(),
    }
    return ec.generate_private_key(curves[alg])


def private_pem(key: PrivateKey) -> bytes:
    """Return a private key in PEM (PKCS #8)."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key: PrivateKey) -> bytes:
    """Return the public key of a private key in PEM."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def b64(raw: bytes) -> bytes:
    """Encode as base64url without padding."""
    return urlsafe_b64encode(raw).rstrip(b"=")


def sign(message: bytes, alg: str = "HS256", key: Any = SECRET) -> bytes:
    """Sign a message; the signature is empty for an algorithm that does not exist."""
    if alg not in {"HS256", "HS384", "HS512"} and key is SECRET:
        key = private_key(alg)
    algorithm = jwt.get_algorithm_by_name("EdDSA" if alg in {"Ed25519", "Ed448"} else alg)
    if alg.startswith("HS"):
        # Not through `prepare_key`, which would reject the secrets that attackers try.
        return algorithm.sign(message, key)
    return algorithm.sign(message, algorithm.prepare_key(key))


def token(
    claims: Mapping[str, Any] | None = None,
    header: Mapping[str, Any] | None = None,
    *,
    alg: str = "HS256",
    key: Any = SECRET,
) -> bytes:
    """Make a valid token, except for the given members; `GONE` leaves a member out."""
    merged = [{**HEADER, "alg": alg, **(header or {})}, {**CLAIMS, **(claims or {})}]
    parts = [{k: v for k, v in part.items() if v is not GONE} for part in merged]
    return raw_token(json.dumps(parts[0]).encode(), json.dumps(parts[1]).encode(), alg=alg, key=key)


def raw_token(header: bytes, payload: bytes, *, alg: str = "HS256", key: Any = SECRET) -> bytes:
    """Make a correctly signed token of exactly these bytes."""
    message = b64(header) + b"." + b64(payload)
    return message + b"." + b64(sign(message, alg, key))


def request(
    authorization: bytes | None = None, cookie: bytes | None = None, **fields: Any
) -> RequestHead:
    """Make a request head; the method is GET by default."""
    head = RequestHead()
    head.method, head.host, head.path = b"GET", b"shop.test", "/"
    head.authorization, head.cookie = authorization, cookie
    for name, value in fields.items():
        setattr(head, name, value)
    return head
