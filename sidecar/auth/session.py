"""A session's value: what is stored under a token id, and its versioned JSON form.

Pure data; who keeps it, and where, is `sessions`' business. A value that cannot be read is a
returned word, never an exception; one that is bound to another token gives nothing.
"""

from __future__ import annotations

import math
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final

import msgspec

VERSION: Final = 1
_MOMENTS: Final = 4096  # remembered

FOREIGN: Final = "foreign"  # the `method` of a session that another program wrote
FOREVER: Final = 253402300799.0  # the end of the year 9999: the store's own TTL says when it ends


class TimestampInterner(dict[float, float]):
    """One object for equal times: `moments[time]` is that time.

    Tokens end at whole seconds, so that those of 100,000 sessions are a few hundred moments, which
    the CPU's caches hold; as an object each they are three of the two dozen places in memory that a
    look-up must wait for, and 100 octets a session.
    """

    def __missing__(self, moment: float) -> float:
        if len(self) >= _MOMENTS:
            self.clear()
        self[moment] = moment
        return moment


class SessionKey(StrEnum):
    """What a session is stored under: the credential's SHA-256, or the credential's own text."""

    SHA256 = "sha256"
    TOKEN = "token"


def token_id(token: bytes, key: SessionKey = SessionKey.SHA256) -> str:
    """The id that a credential's session is stored under."""
    return token.decode("ascii") if key is SessionKey.TOKEN else sha256(token).hexdigest()


def refresh_id(token: bytes) -> str:
    """The id that a refresh token's record is stored under: always its hex SHA-256."""
    return sha256(token).hexdigest()


class Session(msgspec.Struct, kw_only=True, gc=False):
    """One live access credential, bound to its token by `id`.

    Times are seconds since the epoch. `claims` are those that matter to identity and policy
    (`roles`, `scopes`, others by configuration). `method` says how the session began: password,
    cookie, oidc, … An empty `sub` and `sid` mean unknown, and only a foreign session has them.
    """

    id: str  # the token id it is stored under; another id makes the value worthless
    sid: str
    sub: str
    claims: dict[str, Any]
    created: float  # of the login, kept over refreshes
    exp: float  # of this credential
    method: str = "password"
    v: int = VERSION


class RefreshRecord(msgspec.Struct, kw_only=True, gc=False):
    """What is stored under a refresh token's id; `used_at` is None while it can still be claimed.

    `sealed` is the successor pair, encrypted with a key derived from the used token itself, so that
    the store holds nothing usable.
    """

    sid: str
    sub: str
    created: float  # of the login: the session's absolute age counts from here
    exp: float
    token_id: str  # the access token issued beside it, ended by the rotation
    claims: dict[str, Any]
    method: str = "password"
    used_at: float | None = None
    sealed: bytes = b""
    v: int = VERSION


class Grant(msgspec.Struct, kw_only=True):
    """Everything that one login or one refresh writes.

    `refresh` is None for a browser session, whose cookie is not rotated. `replaces` is the token id
    that this grant puts an end to.
    """

    session: Session
    refresh_id: str | None = None
    refresh: RefreshRecord | None = None
    replaces: str | None = None
    user_agent: str = ""
    address: str = ""


class SessionInfo(msgspec.Struct, kw_only=True):
    """One of a user's logins, as listings show it. Times are seconds since the epoch."""

    sid: str
    sub: str
    created: float
    seen: float
    exp: float
    method: str
    user_agent: str = ""
    address: str = ""


class Unreadable(StrEnum):
    """Why a stored value is no session; a label for metrics and logs."""

    MALFORMED = "malformed"  # not JSON, not of this shape, or a field that makes no sense
    VERSION = "version"  # written by another version of this format
    MISMATCH = "mismatch"  # bound to another token: a copied or swapped value


class _Bound(msgspec.Struct):
    """A refresh record with the id of the token that it belongs to."""

    id: str
    record: RefreshRecord


class _Versioned(msgspec.Struct):
    v: int


class _VersionedRecord(msgspec.Struct):
    record: _Versioned


_ENCODER: Final = msgspec.json.Encoder()
_SESSIONS: Final = msgspec.json.Decoder(Session)
_REFRESHES: Final = msgspec.json.Decoder(_Bound)
# What decoders raise on bytes from outside: malformed JSON, bytes that are not UTF-8, nesting too
# deep.
_UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def encode_session(session: Session) -> bytes:
    """The value to store under `session.id`."""
    return _ENCODER.encode(session)


def decode_session(value: bytes, token_id: str) -> Session | Unreadable:
    """The session stored under this token id, or why there is none in this value."""
    try:
        session = _SESSIONS.decode(value)
    except _UNDECODABLE:
        return _why(value, _Versioned)
    if session.v != VERSION:
        return Unreadable.VERSION
    if session.id != token_id:
        return Unreadable.MISMATCH
    if not _makes_sense(session.sid, session.sub, session.created, session.exp):
        return Unreadable.MALFORMED
    return session


def adopt_session(value: bytes, token_id: str) -> Session | Unreadable:
    """As `decode_session`, for SESSION_KEY=token: a value that another program wrote is live too.

    Only a value that is ours and bound to another token is refused: it has been copied here.
    """
    session = decode_session(value, token_id)
    if session is Unreadable.MALFORMED or session is Unreadable.VERSION:
        return foreign_session(token_id)
    return session


def foreign_session(token_id: str) -> Session:
    """The session of a value that says nothing to us: whose it is, only the token can tell."""
    return Session(id=token_id, sid="", sub="", claims={}, created=0.0, exp=FOREVER, method=FOREIGN)


def encode_refresh(record: RefreshRecord, refresh_id: str) -> bytes:
    """The value to store under this refresh id, bound to it."""
    return _ENCODER.encode(_Bound(refresh_id, record))


def decode_refresh(value: bytes, refresh_id: str) -> RefreshRecord | Unreadable:
    """The record stored under this refresh id, or why there is none in this value."""
    try:
        bound = _REFRESHES.decode(value)
    except _UNDECODABLE:
        return _why(value, _VersionedRecord)
    record = bound.record
    if record.v != VERSION:
        return Unreadable.VERSION
    if bound.id != refresh_id:
        return Unreadable.MISMATCH
    if not _makes_sense(record.sid, record.sub, record.created, record.exp):
        return Unreadable.MALFORMED
    return record


def _why(value: bytes, shape: type[_Versioned | _VersionedRecord]) -> Unreadable:
    """Why this value did not decode: another version may well have another shape."""
    try:
        found = msgspec.json.decode(value, type=shape)
    except _UNDECODABLE:
        return Unreadable.MALFORMED
    version = found.v if isinstance(found, _Versioned) else found.record.v
    return Unreadable.MALFORMED if version == VERSION else Unreadable.VERSION


def _makes_sense(sid: str, sub: str, created: float, exp: float) -> bool:
    return bool(sid and sub) and math.isfinite(created) and math.isfinite(exp)
