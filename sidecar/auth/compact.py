"""Splits a JWT in its compact form (RFC 7515 section 7.1) into decoded parts. Pure."""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64
from typing import Final

# Into the alphabet that the decoder knows. Its two own characters, and padding, become one that
# it refuses.
_TO_STANDARD: Final = bytes.maketrans(b"-_+/=", b"+/\0\0\0")
# Padding, and the last characters that leave no unused bit set, by length modulo 4
_PADDING: Final = (b"", b"", b"==", b"=")
_LAST: Final = (b"", b"", b"AQgw", b"AEIMQUYcgkosw048")


def split_token(token: bytes) -> list[bytes] | None:
    """Decode header, payload and signature; None if the token is malformed."""
    parts = token.split(b".", 3)
    if len(parts) != 3:
        return None
    decoded = [raw for part in parts if (raw := decode_part(part)) is not None]
    return decoded if len(decoded) == 3 else None


def decode_part(part: bytes) -> bytes | None:
    """Decode unpadded base64url (RFC 7515 section 2); None if it is not the canonical encoding.

    A second encoding of the same token would have another token id, and could escape revocation.
    """
    over = len(part) % 4
    if over and part[-1:] not in _LAST[over]:  # of a wrong length, none is right
        return None
    try:
        return a2b_base64(part.translate(_TO_STANDARD) + _PADDING[over], strict_mode=True)
    except Base64Error:
        return None
