"""Splits a JWT in its compact form (RFC 7515 section 7.1) into decoded parts. Pure."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error


def split_token(token: bytes) -> list[bytes] | None:
    """Decode header, payload and signature; None if the token is malformed."""
    if token.count(b".") != 2:
        return None
    parts = [raw for part in token.split(b".") if (raw := _decode(part)) is not None]
    return parts if len(parts) == 3 else None


def _decode(part: bytes) -> bytes | None:
    """Decode unpadded base64url (RFC 7515 section 2); None if it is not the canonical encoding.

    A second encoding of the same token would have another token id, and could escape revocation.
    """
    try:
        raw = urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except Base64Error:  # wrong length
        return None
    # The decoder ignores characters outside base64url, so encode again and compare.
    return raw if urlsafe_b64encode(raw).rstrip(b"=") == part else None
