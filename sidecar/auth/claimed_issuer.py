"""Which issuer a bearer token claims to be of, by its form and its `iss` alone. Pure.

Nothing is verified here. Beside a session cookie, a token that no known issuer can have issued is
the application's own business. In doubt the answer is yes: an application that reads tokens
leniently must not find one of ours in what the sidecar took for something else.
"""

from __future__ import annotations

from binascii import a2b_base64
from string import ascii_letters, digits
from typing import TYPE_CHECKING, Final

from sidecar.auth.compact import split_token
from sidecar.auth.strict_json import parse_object

if TYPE_CHECKING:
    from collections.abc import Container

_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_NOT_BASE64: Final = bytes({*range(256)} - {*f"{ascii_letters}{digits}+/-_".encode()})
# White space, and what else may be before an object in an encoding that some parsers guess.
_BEFORE_OBJECT: Final = b" \t\r\n\x00\xef\xbb\xbf\xfe\xff"


def claimed_issuer(token: bytes) -> str:
    """Return what a token gives as its issuer, unverified; empty if it gives none."""
    parts = split_token(token)
    claims = None if parts is None else parse_object(parts[1])
    issuer = "" if claims is None else claims.get("iss", "")
    return issuer if isinstance(issuer, str) else ""


def may_be_issued_by(token: bytes, issuers: Container[str]) -> bool:
    """Whether this b64token (RFC 6750 section 2.1) could be a token of one of these issuers.

    False for what holds no JSON claims (an opaque token, PASETO, a JWE) and for a JWT that says
    clearly that it is another issuer's. An issuer "" stands for tokens without `iss`.
    """
    parts = token.split(b".")
    if len(parts) < 3 or not _decode(parts[1]).lstrip(_BEFORE_OBJECT).startswith(b"{"):
        return False
    if len(parts) == 5 and "enc" in (parse_object(_decode(parts[0])) or ()):
        return False  # a JWE (RFC 7516 sections 4.1.2 and 9), whose second part is random
    strict = split_token(token)
    if strict is None or parse_object(strict[0]) is None:
        return True
    claims = parse_object(strict[1])
    if claims is None:
        return True
    issuer = claims.get("iss", "")
    return not isinstance(issuer, str) or issuer in issuers


def _decode(part: bytes) -> bytes:
    """Decode base64 as leniently as any library does: either alphabet, padded or not."""
    text = part.translate(_TO_STANDARD, _NOT_BASE64)
    if len(text) % 4 == 1:
        text = text[:-1]
    return a2b_base64(text + b"=" * (-len(text) % 4))
