"""What is denied: tokens that count by themselves until somebody says otherwise. Pure.

A denial says that all of a kind issued before a moment is refused: of one token, of one login, or
of one user. It is known by a digest of its kind, issuer and value, so that issuers cannot meet, and
no token's id and no user's name can be read from its key.
"""

from __future__ import annotations

from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import msgspec

from sidecar.auth.session import FOREVER, foreign_session
from sidecar.auth.tokens import SessionMode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.auth.tokens import Verified

EVERYTHING: Final = FOREVER + 1.0  # later than any date that a token may have


class Kind(StrEnum):
    """What the value of a denial is."""

    JTI = "jti"
    TOKEN = "token"  # the hex SHA-256 of a token that has no jti
    SID = "sid"
    USER = "sub"


class Revocation(msgspec.Struct, frozen=True):
    """What was issued before a moment is refused, until another (seconds since the epoch)."""

    before: float
    until: float

    def joined(self, other: Revocation) -> Revocation:
        """What refuses all that either does, for as long as the longer."""
        return Revocation(max(self.before, other.before), max(self.until, other.until))


UNREADABLE: Final = Revocation(EVERYTHING, 0.0)  # denies, and is not worth remembering

_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Revocation)


class RevocableToken:
    """A good token that counts unless it is denied: by one of `names`, if it was `issued` before.

    `session` stands for it in a cache; it says no more than the token's id and when it ends.
    """

    __slots__ = ("issued", "names", "session")

    def __init__(self, token_id: str, names: tuple[str, ...], issued: float, exp: float) -> None:
        self.names = names
        self.issued = issued
        self.session = msgspec.structs.replace(foreign_session(token_id), exp=exp)

    def __repr__(self) -> str:
        return f"<Claimed by {len(self.names)} names>"


def revocation_name(kind: Kind, issuer: str, value: str) -> str:
    """The name of a denial, in hexadecimal. Neither a kind nor a value has a NUL in it."""
    return sha256(f"{kind}\0{issuer}\0{value}".encode("utf-8", "surrogatepass")).hexdigest()


def revocable_token(
    verified: Verified | None, token_id: str, digest: bytes
) -> RevocableToken | None:
    """What a good token claims, if denials decide about it; `digest` is its SHA-256.

    One that does not say when it was issued is older than all.
    """
    if verified is None or verified.session_mode is not SessionMode.DENYLIST:
        return None
    user = revocation_name(Kind.USER, verified.issuer, verified.subject)
    names = (*_own_names(verified, digest), user)
    return RevocableToken(token_id, names, verified.claims.get("iat", 0), verified.expires)


def denials_of_token(verified: Verified, digest: bytes, least: float) -> dict[str, Revocation]:
    """What ends a token and its login; the login's other tokens until `least` or as this one."""
    token, *login = _own_names(verified, digest)
    until = max(least, verified.expires)
    return {
        token: Revocation(EVERYTHING, verified.expires),
        **{name: Revocation(EVERYTHING, until) for name in login},
    }


def is_revoked(revocable: RevocableToken, found: Iterable[Revocation | None]) -> bool:
    """Whether one of these refuses this token."""
    return any(denial is not None and revocable.issued < denial.before for denial in found)


def encode_revocation(denial: Revocation) -> bytes:
    """The value to store under its name."""
    return _ENCODER.encode(denial)


def decode_revocation(value: bytes) -> Revocation:
    """The denial of a value. What cannot be read denies: somebody put it there."""
    try:
        return _DECODER.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return UNREADABLE


def _own_names(verified: Verified, digest: bytes) -> list[str]:
    issuer = verified.issuer
    if verified.jti:
        names = [revocation_name(Kind.JTI, issuer, verified.jti)]
    else:
        names = [revocation_name(Kind.TOKEN, issuer, digest.hex())]
    if verified.session_id:
        names.append(revocation_name(Kind.SID, issuer, verified.session_id))
    return names
