"""The MAC that each stored value carries, so that a writer to the store gains no identity. Pure.

Keys are derived from the refresh secrets: only sidecars hold these, whereas applications may hold
the secret that verifies access tokens. A MAC cannot tell an older value of the same key from the
current one, and it cannot tell that a value was deleted. Does not know what values mean.
"""

from __future__ import annotations

import hmac
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_HASH: Final = "sha256"
_HASH_BYTES: Final = 32
_CONTEXT: Final = b"auth-sidecar stored values"
_VERSION: Final = b"1"
_LABEL: Final = b" mac" + _VERSION + b":"  # between the value and its MAC, in hexadecimal
_TAIL: Final = len(_LABEL) + 2 * _HASH_BYTES


class Purpose(StrEnum):
    """What a value is for. A value that was signed for one purpose is invalid for all others."""

    SESSION = "session"
    CURRENT = "current"  # a login, and its credentials
    CLIENT = "client"  # where a login is used
    REFRESH = "refresh"
    USED = "used"  # that a refresh token was used
    REVOCATION = "revocation"


class ValueMac:
    """Signs and verifies stored values of one realm, which is an issuer and an audience.

    The first secret signs, all verify. Raises ValueError if there is none. `realm` is a short name
    of the realm for keys: 16 hexadecimal digits.
    """

    __slots__ = ("_info", "_keys", "_on_removal", "_secrets", "realm")

    def __init__(self, secrets: Sequence[bytes], issuer: str, audience: str) -> None:
        names = _joined(issuer.encode(), audience.encode())
        self.realm = sha256(names).hexdigest()[:16]
        self._info = _joined(_CONTEXT, _VERSION, names)
        self._on_removal: Callable[[], None] = _ignore
        self._secrets: frozenset[bytes] = frozenset()
        self._keys: tuple[hmac.HMAC, ...] = ()  # with its key; copying one saves 0.6 µs
        self.replace_secrets(secrets)

    def __repr__(self) -> str:
        return f"<ValueMac of realm {self.realm} with {len(self._keys)} keys>"

    def set_removal_listener(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever values that were valid have become invalid."""
        self._on_removal = listener

    def replace_secrets(self, secrets: Sequence[bytes]) -> None:
        """Use these secrets from now on; the first signs. Raises ValueError if there is none."""
        if not secrets or not all(secrets):
            raise ValueError("expected secrets")
        removed = self._secrets - frozenset(secrets)
        self._secrets = frozenset(secrets)
        keys = (hkdf_sha256(each, b"", self._info, _HASH_BYTES) for each in secrets)
        self._keys = tuple(hmac.new(key, digestmod=_HASH) for key in keys)
        if removed:
            self._on_removal()

    def sign(self, purpose: Purpose, key: bytes, value: bytes) -> bytes:
        """Return the value, which stays readable, followed by its MAC. `key` is its full name."""
        return value + _tail(self._keys[0], _message(purpose, key, value))

    def verify(self, purpose: Purpose, key: bytes, stored: bytes) -> bytes | None:
        """Return the value that was signed for this purpose and key; None without a valid MAC."""
        value, tail = stored[:-_TAIL], stored[-_TAIL:]
        message = _message(purpose, key, value)
        for keyed in self._keys:
            if hmac.compare_digest(_tail(keyed, message), tail):
                return value
        return None


def has_mac(stored: bytes) -> bool:
    """Whether a value looks as if `sign` had returned it. Does not verify anything."""
    return stored[-_TAIL:].startswith(_LABEL)


def hkdf_sha256(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """Derive a key of `length` bytes, at most 8160, from a secret: HKDF of RFC 5869.

    Written here because the `cryptography` package takes 7 MiB.
    """
    if not 0 < length <= 255 * _HASH_BYTES:  # RFC 5869 section 2.3
        raise ValueError(f"expected 1 to {255 * _HASH_BYTES} bytes; got {length}")
    extracted = hmac.digest(salt or bytes(_HASH_BYTES), secret, _HASH)
    derived = block = b""
    while len(derived) < length:
        counter = bytes((len(derived) // _HASH_BYTES + 1,))
        block = hmac.digest(extracted, block + info + counter, _HASH)
        derived += block
    return derived[:length]


def _message(purpose: Purpose, key: bytes, value: bytes) -> bytes:
    """What the MAC covers. The lengths keep key and value apart."""
    return _HEADS[purpose] + len(key).to_bytes(4, "big") + key + value


def _tail(keyed: hmac.HMAC, message: bytes) -> bytes:
    """What follows a value: a label and the MAC of the message, in hexadecimal."""
    mac = keyed.copy()
    mac.update(message)
    return _LABEL + mac.hexdigest().encode()


def _joined(*parts: bytes) -> bytes:
    """The parts, each after its length, so that no two lists of parts give the same bytes."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _ignore() -> None:
    """The listener until one is set."""


_HEADS: Final = {purpose: _joined(_VERSION, purpose.encode()) for purpose in Purpose}
