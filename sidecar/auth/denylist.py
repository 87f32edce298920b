"""Revocations, for tokens that are valid without a session until they are revoked. Pure.

A revocation covers one token, one login or one user, and refuses what was issued before a certain
time. It is stored under a digest of its kind, issuer and value: issuers cannot collide, and the key
reveals neither a token id nor a user name.
"""

from __future__ import annotations

from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING

from sidecar.auth.revocation import EVERYTHING, Revocation
from sidecar.auth.session import foreign_session
from sidecar.auth.verified import SessionMode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.auth.verified import Verified


class RevocationKind(StrEnum):
    """What a revocation identifies: a token, a login or a user."""

    JTI = "jti"
    TOKEN = "token"  # the content digest of a token that has no jti, in hex
    SID = "sid"
    USER = "sub"


class RevocableToken:
    """A verified token that is valid unless a revocation under one of `names` refuses it.

    `issued` is in seconds since the epoch. `session` represents the token in a cache: it has only
    the token id and the expiry.
    """

    __slots__ = ("issued", "names", "session")

    def __init__(self, token_id: str, names: tuple[str, ...], issued: float, exp: float) -> None:
        self.names = names
        self.issued = issued
        self.session = foreign_session(token_id, exp)

    def __repr__(self) -> str:
        return f"<RevocableToken with {len(self.names)} names>"


def revocation_name(kind: RevocationKind, issuer: str, value: str) -> str:
    """Return the name of a revocation, in hexadecimal. Kinds and values never contain NUL."""
    return sha256(f"{kind}\0{issuer}\0{value}".encode("utf-8", "surrogatepass")).hexdigest()


def content_digest(token: bytes) -> bytes:
    """Return the SHA-256 of what was signed: a token's header and payload, as they were sent.

    The signature is left out because its bearer can change it: of every ECDSA signature (r, s),
    (r, -s) is another valid one, and a token under another name would pass its own revocation.
    """
    return sha256(token.rpartition(b".")[0]).digest()


def revocable_token(
    verified: Verified | None, token_id: str, token: bytes
) -> RevocableToken | None:
    """Return a verified token as a RevocableToken; None unless its issuer uses a denylist.

    `token` is its compact form. A token without `iat` counts as older than any revocation.
    """
    if verified is None or verified.session_mode is not SessionMode.DENYLIST:
        return None
    user = revocation_name(RevocationKind.USER, verified.issuer, verified.subject)
    # Most tokens have a jti, and need no digest.
    digest = b"" if verified.jti else content_digest(token)
    names = (*_own_names(verified, digest), user)
    return RevocableToken(token_id, names, verified.issued, verified.expires)


def revocations_of_token(
    verified: Verified, digest: bytes, minimum_until: float
) -> dict[str, Revocation]:
    """Return the revocations, by name, that end a token and its login.

    `digest` is the token's `content_digest`. The login stays revoked until this token expires, and
    at least until `minimum_until` (seconds since the epoch): it may have other tokens.
    """
    token, *login = _own_names(verified, digest)
    until = max(minimum_until, verified.expires)
    return {
        token: Revocation(EVERYTHING, verified.expires),
        **{name: Revocation(EVERYTHING, until) for name in login},
    }


def is_revoked(revocable: RevocableToken, found: Iterable[Revocation | None]) -> bool:
    """Whether one of the revocations that were found refuses this token."""
    return any(
        revocation is not None and revocable.issued < revocation.before for revocation in found
    )


def _own_names(verified: Verified, digest: bytes) -> list[str]:
    issuer = verified.issuer
    if verified.jti:
        names = [revocation_name(RevocationKind.JTI, issuer, verified.jti)]
    else:
        names = [revocation_name(RevocationKind.TOKEN, issuer, digest.hex())]
    if verified.session_id:
        names.append(revocation_name(RevocationKind.SID, issuer, verified.session_id))
    return names
