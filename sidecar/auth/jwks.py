"""JWKS documents (RFC 7517): the keys that an issuer publishes.

Takes only what verifies signatures and is public. Fetches nothing: the document comes as bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import UnsupportedAlgorithm
from jwt import PyJWK, PyJWTError

from sidecar.auth.asymmetric import ESSENTIAL, asymmetric_key, essential, fitting
from sidecar.auth.strict_json import parse_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.auth.keys import Key

MAX_KEYS: Final = 100

_FAMILY: Final = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}  # how PyJWT names a type of key


@dataclass(frozen=True, slots=True)
class JwksKeys:
    """What a JWKS document gives: its usable keys, and why each of the others is not."""

    keys: tuple[Key, ...]
    refused: tuple[str, ...]


def jwks_keys(issuer: str, document: bytes, algorithms: Sequence[str] = ()) -> JwksKeys:
    """The signing keys of a JWKS document (RFC 7517 section 5); bad ones do not spoil the others.

    A key without `alg` gets the first of `algorithms` that fits it, or the usual one for its type.
    Raises ValueError when the document is no JWK set.
    """
    members = (parse_object(document) or {}).get("keys")
    if not isinstance(members, list):
        # The document's fault, not a caller's wrong type.
        raise ValueError('a JWK set: a JSON object with a list "keys"')  # noqa: TRY004
    keys: list[Key] = []
    refused = []
    for number, jwk in enumerate(members, start=1):
        if number > MAX_KEYS:
            refused.append(f"key {number}: expected at most {MAX_KEYS} keys")
            break
        key = _read(issuer, jwk, algorithms)
        if isinstance(key, str):
            refused.append(f"key {number}: expected {key}")
        elif key.kid and any((key.kid, key.alg) == (other.kid, other.alg) for other in keys):
            refused.append(f"key {number}: expected a key id of its own")
        else:
            keys.append(key)
    return JwksKeys(tuple(keys), tuple(refused))


def _read(issuer: str, jwk: object, algorithms: Sequence[str]) -> Key | str:
    """A public key out of a JWK set, or what was expected in its place."""
    if not isinstance(jwk, dict):
        return "a JSON object"
    kty, kid, operations = jwk.get("kty"), jwk.get("kid", ""), jwk.get("key_ops", ["verify"])
    if not isinstance(kty, str) or kty not in ESSENTIAL:
        return "an RSA, EC or OKP key"  # `oct` neither: what everybody can read is no secret
    if "d" in jwk:
        return "a public key; this one is private, and everybody has it now"
    if jwk.get("use", "sig") != "sig" or not (
        isinstance(operations, list) and "verify" in operations
    ):
        return "a key for verifying signatures"
    if not isinstance(kid, str):
        return "a text as key id"
    try:
        public = PyJWK(essential(jwk), _FAMILY[kty]).key
        return asymmetric_key(issuer, kid, _algorithm(jwk, public, algorithms), public)
    except ValueError as error:
        return str(error)
    except (PyJWTError, UnsupportedAlgorithm, KeyError):
        return f"the members that make up an {kty} key"


def _algorithm(jwk: dict[str, object], public: object, algorithms: Sequence[str]) -> str:
    """The one algorithm of a key: what it says, or what is configured. Raises ValueError."""
    fits = [each for each in algorithms or fitting(public) if each in fitting(public)]
    alg = jwk.get("alg", fits[0] if fits else "")
    if not isinstance(alg, str) or alg not in fits:
        raise ValueError(f"an algorithm out of {', '.join(fits) or 'none, for none fits it'}")
    return alg
