"""The MAC and the key names that stores under test use, to read and write their Redis directly."""

from __future__ import annotations

from typing import Final

from sidecar.auth.value_mac import Purpose, ValueMac
from sidecar.sessions.redis.key_names import DEFAULT_PREFIX, KeyNames

REFRESH_SECRET: Final = "refresh-secret-0123456789abcdefghijklmn"
MAC: Final = ValueMac([REFRESH_SECRET.encode()], "auth-sidecar", "auth-sidecar")
NAMES: Final = KeyNames(DEFAULT_PREFIX, MAC.realm)


def signed(purpose: Purpose, key: bytes, value: bytes) -> bytes:
    """The value as a sidecar would store it under this key."""
    return MAC.sign(purpose, key, value)


def unsigned(purpose: Purpose, key: bytes, stored: object) -> bytes:
    """The value in what is stored under this key. Its MAC must be valid."""
    assert isinstance(stored, bytes)
    value = MAC.verify(purpose, key, stored)
    assert value is not None
    return value
