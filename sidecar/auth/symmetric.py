"""Makes symmetric keys from a shared secret: HMAC with SHA-2.

This needs only the standard library. `asymmetric`, whose libraries take 9 MiB, is imported only to
check a secret that looks like an asymmetric key.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64encode
from typing import Final

from sidecar.auth.keys import SECRET_BYTES, Key

# Occurs in every key in PEM, JWK (a JSON object), SSH and DER format (bit strings begin with NUL).
_LIKE_A_KEY: Final = re.compile(rb"----|\{|\x00|^(?:ssh|ecdsa)-")


class Hmac:
    """HMAC with SHA-2 (RFC 7518 section 3.2). A key is prepared once; copying it saves 0.5 µs."""

    __slots__ = ("_digest",)

    def __init__(self, alg: str) -> None:
        self._digest = f"sha{alg.removeprefix('HS')}"

    def __repr__(self) -> str:
        return f"<Hmac {self._digest}>"

    def prepare(self, secret: bytes) -> hmac.HMAC:
        """Return the key in the form that `sign` and `verify` take."""
        return hmac.new(secret, digestmod=self._digest)

    def sign(self, message: bytes, key: hmac.HMAC, /) -> bytes:
        """Return the authentication code of the message."""
        code = key.copy()
        code.update(message)
        return code.digest()

    def verify(self, message: bytes, key: hmac.HMAC, signature: bytes, /) -> bool:
        """Whether `signature` is the code of the message. Compares in constant time."""
        return hmac.compare_digest(self.sign(message, key), signature)


def secret_key(
    issuer: str,
    secret: bytes,
    alg: str = "HS256",
    *,
    kid: str | None = None,
    allow_weak: bool = False,
) -> Key:
    """Make a key from a shared secret.

    `kid` defaults to an id derived from the secret, which reveals nothing about it. Raises
    ValueError if the secret is empty, is itself an asymmetric key (a public key must never serve as
    a secret), or is too short for the algorithm (unless `allow_weak`), and if `alg` is not HMAC.
    """
    if alg not in SECRET_BYTES:
        raise ValueError(f"expected one of {', '.join(SECRET_BYTES)} for a secret; got {alg}")
    if len(secret) < SECRET_BYTES[alg] and not allow_weak:
        raise ValueError(
            f"expected a secret of at least {SECRET_BYTES[alg]} bytes for {alg}; got {len(secret)}"
        )
    if not secret or (_LIKE_A_KEY.search(secret) and _is_key(secret)):
        raise ValueError("expected a secret that is neither empty nor an asymmetric key or JWK")
    if kid is None:
        digest = hmac.digest(secret, b"auth-sidecar key id", "sha256")[:12]
        kid = urlsafe_b64encode(digest).decode("ascii")
    algorithm = Hmac(alg)
    prepared = algorithm.prepare(secret)
    return Key(issuer, kid, alg, algorithm, public=prepared, private=prepared)


def _is_key(secret: bytes) -> bool:
    """Whether a secret that looks like an asymmetric key is one."""
    # Imported here: it takes 9 MiB and 120 ms, and most secrets do not look like a key.
    from sidecar.auth.asymmetric import is_key  # noqa: PLC0415

    return is_key(secret)
