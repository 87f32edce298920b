"""Keys made from PEM texts, or from their two halves: RSA, EC, Ed25519 and Ed448.

With the libraries for them it takes 9 MiB, so that only those who have such keys import it. Fetches
nothing and reads no files.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from jwt import PyJWTError, get_algorithm_by_name

from sidecar.auth.keys import CURVES, RSA, Key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

# RFC 7518 section 3.3; and no larger ones, for verifying with them takes too long.
RSA_BITS: Final = range(2048, 8193)

# The members of a JWK that its thumbprint is made of (RFC 7638 section 3.2, RFC 8037 section 2).
ESSENTIAL: Final = {
    "RSA": ("e", "kty", "n"),
    "EC": ("crv", "kty", "x", "y"),
    "OKP": ("crv", "kty", "x"),
}


def pem_key(issuer: str, pem: bytes, alg: str = "", *, kid: str | None = None) -> Key:
    """A key from a PEM text, private or public; without `alg` the usual one for its type.

    Its id is its thumbprint (RFC 7638). Raises ValueError for anything but an RSA key of 2048 to
    8192 bits, an EC key on a NIST curve, or an Ed25519 or Ed448 key, and when `alg` does not fit
    it.
    """
    private = _load_private(pem)
    public = _load_public(pem) if private is None else private.public_key()
    return asymmetric_key(issuer, kid, alg, public, private)


def asymmetric_key(
    issuer: str, kid: str | None, alg: str, public: object, private: object = None
) -> Key:
    """A key from its two halves; without `kid` it is called by its thumbprint (RFC 7638).

    Raises ValueError as `pem_key`.
    """
    fits = fitting(public)
    alg = alg or fits[0]
    if alg not in fits:
        raise ValueError(f"one of {', '.join(fits)} for a key of this type; got {alg}")
    algorithm = get_algorithm_by_name(alg)
    jwk = essential(algorithm.to_jwk(public, as_dict=True))
    kid = thumbprint(jwk) if kid is None else kid
    return Key(issuer, kid, alg, algorithm, public=public, private=private, jwk=jwk)


def fitting(public: object) -> Sequence[str]:
    """The algorithms that fit a public key, the usual one first. Raises ValueError."""
    if isinstance(public, rsa.RSAPublicKey):
        if public.key_size not in RSA_BITS:
            raise ValueError(f"an RSA key of 2048 to 8192 bits; got {public.key_size}")
        return RSA
    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in CURVES:
        return (CURVES[public.curve.name],)
    if isinstance(public, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return ("EdDSA",)
    raise ValueError("an RSA key, an EC key on P-256, P-384 or P-521, or an Ed25519 or Ed448 key")


def is_key(secret: bytes) -> bool:
    """Whether a secret is a key or a certificate in PEM, in DER, in SSH's form or as a JWK."""
    try:
        get_algorithm_by_name("HS256").prepare_key(secret)
    except PyJWTError:
        return True
    return False


def _load_private(pem: bytes) -> PrivateKeyTypes | None:
    try:
        return load_pem_private_key(pem, None)
    except TypeError:
        raise ValueError("a PEM key without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        return None


def _load_public(pem: bytes) -> PublicKeyTypes:
    try:
        return load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("a private or public key in PEM") from None


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """A public JWK's thumbprint (RFC 7638)."""
    digest = sha256(msgspec.json.encode(essential(jwk), order="sorted")).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def essential(jwk: Mapping[str, Any]) -> dict[str, str]:
    """The members that make up a public JWK. Raises KeyError when one is missing."""
    return {name: jwk[name] for name in ESSENTIAL[jwk["kty"]]}
