"""Makes asymmetric keys (RSA, EC, Ed25519, Ed448) from PEM, or from a public and private key.

This module and its libraries take 9 MiB, so it is imported only if a deployment has such keys.
It fetches nothing and reads no files.
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

from sidecar.auth.keys import CURVES, EDDSA, EDWARDS, RSA, Key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

# The minimum is that of RFC 7518 section 3.3. Verifying with larger keys takes too long.
RSA_BITS: Final = range(2048, 8193)

# The members of a JWK that its thumbprint covers (RFC 7638 section 3.2, RFC 8037 section 2).
ESSENTIAL: Final = {
    "RSA": ("e", "kty", "n"),
    "EC": ("crv", "kty", "x", "y"),
    "OKP": ("crv", "kty", "x"),
}


def pem_key(issuer: str, pem: bytes, alg: str = "", *, kid: str | None = None) -> Key:
    """Make a key from a private or public key in PEM.

    `alg` defaults to the usual algorithm for this type of key, `kid` to its thumbprint (RFC 7638).
    Raises ValueError unless it is an RSA key of 2048 to 8192 bits, an EC key on a NIST curve, or an
    Ed25519 or Ed448 key, and if `alg` does not fit the key.
    """
    private = _load_private(pem)
    public = _load_public(pem) if private is None else private.public_key()
    return asymmetric_key(issuer, kid, alg, public, private)


def asymmetric_key(
    issuer: str, kid: str | None, alg: str, public: object, private: object = None
) -> Key:
    """Make a key from a public key and, if it should sign, its private key.

    `kid` defaults to the thumbprint (RFC 7638). Raises ValueError as `pem_key` does.
    """
    fits = fitting_algorithms(public)
    alg = alg or fits[0]
    if alg not in fits:
        raise ValueError(f"expected one of {', '.join(fits)} for a key of this type; got {alg}")
    # The library knows the algorithms of RFC 9864 under their common name only.
    algorithm = get_algorithm_by_name(EDDSA if alg in EDWARDS else alg)
    jwk = essential(algorithm.to_jwk(public, as_dict=True))
    kid = thumbprint(jwk) if kid is None else kid
    # One key may not serve two algorithms (RFC 8725 section 3.1), but these are two names of one.
    names = fits if alg in {EDDSA, *EDWARDS} else ()
    return Key(issuer, kid, alg, algorithm, public=public, private=private, jwk=jwk, names=names)


def fitting_algorithms(public: object) -> Sequence[str]:
    """Return the algorithms that fit a public key, the usual one first.

    Raises ValueError if the key has the wrong type, curve or size.
    """
    if isinstance(public, rsa.RSAPublicKey):
        if public.key_size not in RSA_BITS:
            raise ValueError(f"expected an RSA key of 2048 to 8192 bits; got {public.key_size}")
        return RSA
    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in CURVES:
        return (CURVES[public.curve.name],)
    if isinstance(public, ed25519.Ed25519PublicKey):
        return (EDDSA, "Ed25519")
    if isinstance(public, ed448.Ed448PublicKey):
        return (EDDSA, "Ed448")
    raise ValueError(
        "expected an RSA key, an EC key on P-256, P-384 or P-521, or an Ed25519 or Ed448 key"
    )


def is_key(secret: bytes) -> bool:
    """Whether a secret is in fact a key or certificate in PEM, DER, SSH or JWK format."""
    try:
        get_algorithm_by_name("HS256").prepare_key(secret)
    except PyJWTError:
        return True
    return False


def _load_private(pem: bytes) -> PrivateKeyTypes | None:
    try:
        return load_pem_private_key(pem, None)
    except TypeError:
        raise ValueError("expected a PEM key without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        return None


def _load_public(pem: bytes) -> PublicKeyTypes:
    try:
        return load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("expected a private or public key in PEM") from None


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """Return the thumbprint of a public JWK (RFC 7638)."""
    digest = sha256(msgspec.json.encode(essential(jwk), order="sorted")).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def essential(jwk: Mapping[str, Any]) -> dict[str, str]:
    """Return only the members that make up a public JWK. Raises KeyError if one is missing."""
    return {name: jwk[name] for name in ESSENTIAL[jwk["kty"]]}
