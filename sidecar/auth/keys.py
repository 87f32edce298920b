"""Keys that sign and verify tokens, and the key ring in which they are looked up.

Each key has one algorithm, fixed when the key is made (RFC 8725 section 3.1). A token can only name
a key, never supply one. Keys are made in `symmetric` and `asymmetric`; nothing here fetches keys or
reads files.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from sidecar.auth.reason import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}  # RFC 7518 section 3.2
RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
EDDSA: Final = "EdDSA"  # RFC 8037: an algorithm of either of two curves
EDWARDS: Final = ("Ed25519", "Ed448")  # RFC 9864: each curve is an algorithm of its own
ALGORITHMS: Final = frozenset((*SECRET_BYTES, *RSA, *CURVES.values(), EDDSA, *EDWARDS))
MAX_TRIED: Final = 4  # keys that are tried for a token without a `kid`


class Algorithm(Protocol):
    """A signature algorithm. Both methods take the key in the form that the algorithm needs."""

    def sign(self, message: bytes, key: Any, /) -> bytes:
        """Return the signature of the message."""

    def verify(self, message: bytes, key: Any, signature: bytes, /) -> bool:
        """Whether the signature is that of the message. Never raises for a bad signature."""


class Key:
    """A key of one issuer for one algorithm. With an empty `kid`, it serves tokens of any `kid`.

    `names` are all names of that algorithm; the key signs under `alg`.
    """

    __slots__ = ("_algorithm", "_jwk", "_private", "_public", "alg", "issuer", "kid", "names")

    def __init__(
        self,
        issuer: str,
        kid: str,
        alg: str,
        algorithm: Algorithm,
        *,
        public: object,
        private: object,
        jwk: Mapping[str, str] | None = None,
        names: Sequence[str] = (),
    ) -> None:
        self.issuer = issuer
        self.kid = kid
        self.alg = alg
        self.names = tuple(names) or (alg,)
        self._algorithm = algorithm
        self._public = public
        self._private = private
        self._jwk = jwk  # the members that make up the public key

    def __repr__(self) -> str:
        return f"<Key {self.alg} kid={self.kid!r} of {self.issuer!r}>"

    @property
    def can_sign(self) -> bool:
        """Whether this key can sign: it has the private key or the secret."""
        return self._private is not None

    @property
    def is_symmetric(self) -> bool:
        """Whether signing and verifying use the same secret."""
        return self.alg in SECRET_BYTES

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether the signature of the message was made with this key."""
        return self._algorithm.verify(message, self._public, signature)

    def sign(self, message: bytes) -> bytes:
        """Return the signature of the message. Raises ValueError if this is only a public key."""
        if self._private is None:
            raise ValueError(f"{self!r} cannot sign: it is a public key")
        return self._algorithm.sign(message, self._private)

    def public_jwk(self) -> dict[str, str] | None:
        """Return the public key as a JWK (RFC 7517), or None for a shared secret."""
        if self._jwk is None:
            return None
        return {**self._jwk, "kid": self.kid, "alg": self.alg, "use": "sig"}


def with_names(algorithms: Sequence[str]) -> tuple[str, ...]:
    """Return these algorithms, and after EdDSA the names that RFC 9864 gives it."""
    found = (name for alg in algorithms for name in ((alg, *EDWARDS) if alg == EDDSA else (alg,)))
    return tuple(dict.fromkeys(found))


def public_jwks(keys: Iterable[Key]) -> bytes:
    """Return the JWKS document (RFC 7517) of the public keys, leaving out shared secrets."""
    found = [jwk for key in keys if (jwk := key.public_jwk()) is not None]
    return msgspec.json.encode({"keys": found})


class KeyRing:
    """All keys that verify tokens, by issuer. Immutable; `generation` counts replacements.

    `secret_issuers` has, by algorithm, the issuer that verifies with a shared secret, if it is the
    only one.
    """

    __slots__ = ("_by_issuer", "_by_kid", "generation", "keys", "secret_issuers")

    def __init__(self, keys: Iterable[Key] = (), generation: int = 0) -> None:
        self.keys = tuple(keys)
        self.generation = generation
        self._by_issuer: dict[str, list[Key]] = {}
        self._by_kid: dict[tuple[str, str], list[Key]] = {}
        for key in self.keys:
            self._by_issuer.setdefault(key.issuer, []).append(key)
            self._by_kid.setdefault((key.issuer, key.kid), []).append(key)
        secrets = {(key.alg, key.issuer) for key in self.keys if key.is_symmetric}
        holders = Counter(alg for alg, _ in secrets)
        self.secret_issuers = {alg: issuer for alg, issuer in secrets if holders[alg] == 1}

    def __repr__(self) -> str:
        return f"<KeyRing {len(self.keys)} keys, generation {self.generation}>"

    def find(self, issuer: str, kid: str | None, alg: str) -> list[Key] | Reason:
        """Return the one to four keys that may have signed a token, or why there is none.

        `kid` and `alg` are those of the token's header; `kid` is None if the header has none.
        """
        known = self._by_issuer.get(issuer)
        if alg not in ALGORITHMS:
            return Reason.ALGORITHM
        if known is None:
            return Reason.KEY_UNKNOWN
        if kid is not None:
            known = self._by_kid.get((issuer, kid)) or self._by_kid.get((issuer, ""))
            if known is None:
                return Reason.KEY_UNKNOWN
        return [key for key in known if alg in key.names][:MAX_TRIED] or Reason.ALGORITHM

    def replaced(self, issuer: str, keys: Iterable[Key]) -> KeyRing:
        """Return a ring of the next generation in which this issuer has exactly these keys."""
        others = (key for key in self.keys if key.issuer != issuer)
        return KeyRing((*others, *keys), self.generation + 1)
