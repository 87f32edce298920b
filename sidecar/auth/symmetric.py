"""Keys made from a shared secret: HMAC with SHA-2.

These keys need only the standard library. The libraries for asymmetric keys take 9 MiB and are
imported by `asymmetric`, when a deployment has such keys.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64encode
from typing import Final

from sidecar.auth.keys import SECRET_BYTES, Key

# In every key in PEM, JWK (an object in braces), SSH and DER (whose bit strings begin with a zero).
_LIKE_A_KEY: Final = re.compile(rb"----|\{|\x00|^(?:ssh|ecdsa)-")


class Hmac:
    """HMAC with SHA-2 (RFC 7518 section 3.2)."""

    __slots__ = ("_digest",)

    def __init__(self, alg: str) -> None:
        self._digest = f"sha{alg.removeprefix('HS')}"

    def __repr__(self) -> str:
        return f"<Hmac {self._digest}>"

    def sign(self, message: bytes, key: bytes, /) -> bytes:
        """The code that authenticates these bytes."""
        return hmac.digest(key, message, self._digest)

    def verify(self, message: bytes, key: bytes, signature: bytes, /) -> bool:
        """Whether the code is that of these bytes; how long it takes tells nothing."""
        return hmac.compare_digest(self.sign(message, key), signature)


def secret_key(
    issuer: str,
    secret: bytes,
    alg: str = "HS256",
    *,
    kid: str | None = None,
    allow_weak: bool = False,
) -> Key:
    """A key from a shared secret; its id is derived from the secret, and tells nothing of it.

    Raises ValueError for a secret that is too short for the algorithm (unless `allow_weak`), empty,
    or itself an asymmetric key: a public key must never serve as a secret.
    """
    if alg not in SECRET_BYTES:
        raise ValueError(f"one of {', '.join(SECRET_BYTES)} for a secret; got {alg}")
    if len(secret) < SECRET_BYTES[alg] and not allow_weak:
        raise ValueError(
            f"a secret of at least {SECRET_BYTES[alg]} bytes for {alg}; got {len(secret)}"
        )
    if not secret or (_LIKE_A_KEY.search(secret) and _is_key(secret)):
        raise ValueError("a secret that is neither empty nor an asymmetric key or JWK")
    if kid is None:
        digest = hmac.digest(secret, b"auth-sidecar key id", "sha256")[:12]
        kid = urlsafe_b64encode(digest).decode("ascii")
    return Key(issuer, kid, alg, Hmac(alg), public=secret, private=secret)


def _is_key(secret: bytes) -> bool:
    """Whether a secret that looks like it really is a key that others have."""
    # 9 MiB and 120 ms that a random text does not cost.
    from sidecar.auth.asymmetric import is_key  # noqa: PLC0415

    return is_key(secret)
