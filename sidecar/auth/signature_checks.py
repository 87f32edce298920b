"""Checks a token's header and finds the key that signed it (RFC 7515 section 4.1). Pure.

`jwk`, `jku`, `x5u` and `x5c` are ignored: a token never brings a key. Knows no claims and no
issuers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidecar.auth.reason import Reason
from sidecar.auth.token_kind import LOGOUT_TYPE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.auth.keys import Key, KeyRing


def check_header(
    header: Mapping[str, Any], types: frozenset[str], *, foreign: bool
) -> Reason | None:
    """Check critical headers and `typ`; a `foreign` issuer also signs logout tokens."""
    # No extension is supported (RFC 7515 section 4.1.11, RFC 7797).
    if "crit" in header or "b64" in header:
        return Reason.TOKEN_MALFORMED
    kind = type_of(header)
    if kind in types:
        return None
    return Reason.LOGOUT_TOKEN if foreign and kind == LOGOUT_TYPE else Reason.TOKEN_TYPE


def find_signing_key(
    token: bytes,
    signature: bytes,
    header: Mapping[str, Any],
    keys: KeyRing,
    *,
    issuer: str,
    algorithms: frozenset[str],
) -> Key | Reason:
    """Return the key that made the signature. Empty `algorithms` allow those of the keys."""
    alg, kid = header.get("alg"), header.get("kid")
    if not isinstance(alg, str) or (algorithms and alg not in algorithms):
        return Reason.ALGORITHM
    if "kid" in header and not isinstance(kid, str):
        return Reason.TOKEN_MALFORMED
    found = keys.find(issuer, kid, alg)
    if isinstance(found, Reason):
        return found
    message = token[: token.rindex(b".")]
    return next((key for key in found if key.verify(message, signature)), Reason.SIGNATURE)


def type_of(header: Mapping[str, Any]) -> str | None:
    """Return the media type in `typ` (RFC 7515 section 4.1.9): "" if absent, None if invalid."""
    kind = header.get("typ")
    if not isinstance(kind, str):
        return None if "typ" in header else ""
    return kind.lower().removeprefix("application/") or None
