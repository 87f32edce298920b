"""Reads JWKS documents (RFC 7517): the keys that an issuer publishes.

Accepts only public keys that verify signatures. Fetches nothing: the caller passes the document.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import UnsupportedAlgorithm
from jwt import PyJWK, PyJWTError

from sidecar.auth.asymmetric import ESSENTIAL, asymmetric_key, essential, fitting_algorithms
from sidecar.auth.keys import with_names
from sidecar.auth.strict_json import parse_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.auth.keys import Key

MAX_KEYS: Final = 100

_FAMILY: Final = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}  # PyJWT's name for a key type


@dataclass(frozen=True, slots=True)
class JwksKeys:
    """The usable keys of a JWKS document, and a message about each key that was refused."""

    keys: tuple[Key, ...]
    refused: tuple[str, ...]


def jwks_keys(issuer: str, document: bytes, algorithms: Sequence[str] = ()) -> JwksKeys:
    """Read the signing keys of a JWKS document (RFC 7517 section 5), leaving out unusable keys.

    A key without `alg` gets the first of `algorithms` that fits it, or the usual one for its type.
    Raises ValueError if the document is not a JWK set.
    """
    members = (parse_object(document) or {}).get("keys")
    if not isinstance(members, list):
        # Not a TypeError: the document is wrong, the caller passed the right type.
        raise ValueError('expected a JWK set: a JSON object with a list "keys"')  # noqa: TRY004
    keys: list[Key] = []
    refused = []
    for number, jwk in enumerate(members, start=1):
        if number > MAX_KEYS:
            refused.append(f"key {number}: expected at most {MAX_KEYS} keys")
            break
        key = _read(issuer, jwk, algorithms)
        if isinstance(key, str):
            refused.append(f"key {number}: {key}")
        else:
            keys.append(key)
    return JwksKeys(tuple(keys), tuple(refused))


def _read(issuer: str, jwk: object, algorithms: Sequence[str]) -> Key | str:
    """Read one key of a JWK set; returns a message if it is unusable."""
    if not isinstance(jwk, dict):
        return "expected a JSON object"
    kty, kid, operations = jwk.get("kty"), jwk.get("kid", ""), jwk.get("key_ops", ["verify"])
    if not isinstance(kty, str) or kty not in ESSENTIAL:
        return "expected an RSA, EC or OKP key"  # no `oct`: a published key is not a secret
    if "d" in jwk:
        return "expected a public key; this private key has been published"
    if jwk.get("use", "sig") != "sig" or not (
        isinstance(operations, list) and "verify" in operations
    ):
        return "expected a key for verifying signatures"
    if not isinstance(kid, str):
        return "expected a string as key id"
    try:
        public = PyJWK(essential(jwk), _FAMILY[kty]).key
        return asymmetric_key(issuer, kid, _algorithm(jwk, public, algorithms), public)
    except ValueError as error:
        return str(error)
    except (PyJWTError, UnsupportedAlgorithm, KeyError):
        return f"expected the members that make up an {kty} key"


def _algorithm(jwk: dict[str, object], public: object, algorithms: Sequence[str]) -> str:
    """Return the algorithm of a key: its `alg`, or the first configured one that fits it.

    Raises ValueError if that algorithm does not fit the key or is not among `algorithms`.
    """
    usable = fitting_algorithms(public)
    fits = [each for each in with_names(algorithms) or usable if each in usable]
    if not fits:
        raise ValueError(f"expected a key for {', '.join(algorithms)}; it fits none of them")
    alg = jwk.get("alg", fits[0])
    if not isinstance(alg, str) or alg not in fits:
        raise ValueError(f"expected one of {', '.join(fits)} as algorithm")
    return alg
