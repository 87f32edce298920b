"""The session that is stored under a token id, and its versioned JSON form. Pure data.

Decoding never raises: an unreadable value is a returned `Unreadable`, and so is a value that is
bound to another token. Storing sessions belongs to `sessions`.
"""

from __future__ import annotations

import math
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final

import msgspec

from sidecar.auth.value_mac import has_mac

VERSION: Final = 1
_MAX_TIMESTAMPS: Final = 4096
_MAX_CLAIMS: Final = 1024  # different claims, of at most so many octets each as JSON
_MAX_INTERNED: Final = 512

PASSWORD: Final = "password"  # the `method` of a login with a password of the users file
FOREIGN: Final = "foreign"  # the `method` of a session that another program wrote
FOREVER: Final = 253402300799.0  # the end of the year 9999, for "until the store's TTL ends it"

# How many of a login's used refresh tokens keep a record while their grace lasts. A fixed number,
# so that a login takes the same space however fast it is refreshed.
USED_KEPT: Final = 2


class TimestampInterner(dict[float, float]):
    """Returns one shared object for equal times: `timestamps[time]` equals `time`.

    Tokens expire at whole seconds, so 100,000 sessions have only a few hundred different times, and
    these stay in the CPU's caches. As separate objects they would take 100 octets a session, and
    cause three of the two dozen cache misses of a look-up.
    """

    def __missing__(self, timestamp: float) -> float:
        if len(self) >= _MAX_TIMESTAMPS:
            self.clear()
        self[timestamp] = timestamp
        return timestamp


class ClaimsInterner:
    """Returns one shared dict for equal claims, which must not be changed: most users have few.

    `{"roles": ["user"]}` takes 370 octets; of what 100,000 sessions take, that was a third.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, dict[str, Any]] = {}

    def __repr__(self) -> str:
        return f"<ClaimsInterner {len(self._known)} known>"

    def shared(self, claims: dict[str, Any]) -> dict[str, Any]:
        """Return equal claims with names in the same order, or these ones if there are none."""
        encoded = _ENCODER.encode(claims)
        if len(encoded) > _MAX_INTERNED:
            return claims
        if len(self._known) >= _MAX_CLAIMS:
            self._known.clear()
        return self._known.setdefault(encoded, claims)


class SessionKey(StrEnum):
    """What a session is stored under: the credential's SHA-256, or the credential itself."""

    SHA256 = "sha256"
    TOKEN = "token"


def token_id(token: bytes, key: SessionKey = SessionKey.SHA256, digest: bytes | None = None) -> str:
    """Return the id under which the session of a credential is stored.

    `digest` is the credential's SHA-256, if that is known already.
    """
    if key is SessionKey.TOKEN:
        return token.decode("ascii")
    return (sha256(token).digest() if digest is None else digest).hex()


def refresh_id(token: bytes) -> str:
    """Return the id under which a refresh token's record is stored: always its hex SHA-256."""
    return sha256(token).hexdigest()


class Session(msgspec.Struct, kw_only=True, gc=False):
    """The session of one access token or cookie, bound to that credential by `id`.

    Times are seconds since the epoch. `claims` are those that identity and policy need (`roles`,
    `scopes`, others by configuration). `method` says how the session began: password, cookie,
    oidc, … Only a foreign session has an empty `sub` and `sid`, which mean unknown.
    """

    id: str  # the token id it is stored under; under any other id, the value is refused
    sid: str
    sub: str
    claims: dict[str, Any]
    created: float  # time of the login; refreshes do not change it
    exp: float  # when this credential expires
    method: str = PASSWORD
    v: int = VERSION


class RefreshRecord(msgspec.Struct, kw_only=True, gc=False):
    """The record of a refresh token; `used_at` is None until the token is used.

    A used record only answers repeats, so it expires soon. `sealed` is the successor pair,
    encrypted with a key derived from the used token, because the store must not hold usable
    tokens. Times are seconds since the epoch.
    """

    sid: str
    sub: str
    created: float  # time of the login, from which the maximum age of the session counts
    exp: float  # when this record expires
    token_id: str  # the access token issued with it, which rotation ends, at once or after a grace
    claims: dict[str, Any]
    method: str = PASSWORD
    generation: int = 0  # how often the login had been refreshed when the token was issued
    issued: float = 0.0
    previous: tuple[str, ...] = ()  # ids of the tokens used before it, the latest first
    token_before: str = ""  # the access token that `token_id` replaced; it may be in its grace
    used_at: float | None = None
    sealed: bytes = b""
    v: int = VERSION


class Grant(msgspec.Struct, kw_only=True):
    """Everything that one login or one refresh writes to the store.

    `refresh` is None for a browser session, whose cookie is not rotated. `replaces` is the id of
    the token that this grant ends, at `replaced_until` or else at once; `ends` that of the token
    before it, whose own grace is then over. `discards` is the id of a used refresh token whose
    record is no longer kept.
    """

    session: Session
    refresh_id: str | None = None
    refresh: RefreshRecord | None = None
    replaces: str | None = None
    replaced_until: float = 0.0  # seconds since the epoch
    ends: str | None = None
    discards: str | None = None
    user_agent: str = ""
    address: str = ""

    @property
    def generation(self) -> int:
        """How often the login has been refreshed, this grant included."""
        return 0 if self.refresh is None else self.refresh.generation

    def replaced(self, now: float) -> Session | None:
        """Return the session that the replaced token still has, or None if it has none now."""
        if self.replaces is None or self.replaced_until <= now:
            return None
        return msgspec.structs.replace(self.session, id=self.replaces, exp=self.replaced_until)


class SessionInfo(msgspec.Struct, kw_only=True):
    """One login of a user, as shown in lists of sessions. Times are seconds since the epoch."""

    sid: str
    sub: str
    created: float
    seen: float
    exp: float
    method: str
    user_agent: str = ""
    address: str = ""


class Unreadable(StrEnum):
    """Why a stored value is not a session; a label for metrics and logs."""

    MALFORMED = "malformed"  # not JSON, not of this shape, or a field has an invalid value
    VERSION = "version"  # written in another version of this format
    MISMATCH = "mismatch"  # bound to another token: the value was copied or swapped
    BAD_MAC = "bad_mac"  # not signed for this key by a sidecar of this realm


class _Bound(msgspec.Struct):
    """A refresh record with the id of the refresh token to which it belongs."""

    id: str
    record: RefreshRecord


class _Versioned(msgspec.Struct):
    v: int


class _VersionedRecord(msgspec.Struct):
    record: _Versioned


_ENCODER: Final = msgspec.json.Encoder()
_NO_CLAIMS: Final[dict[str, Any]] = {}  # one for all foreign sessions
_SESSIONS: Final = msgspec.json.Decoder(Session)
_REFRESHES: Final = msgspec.json.Decoder(_Bound)
# What the decoders raise on malformed JSON, on bytes that are not UTF-8, and on deep nesting.
_UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def encode_session(session: Session) -> bytes:
    """Return the value to store under `session.id`."""
    return _ENCODER.encode(session)


def decode_session(value: bytes, token_id: str) -> Session | Unreadable:
    """Decode the value stored under this token id, or say why it is not a session."""
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


def adopt_session(signed: bytes | None, stored: bytes, token_id: str) -> Session | Unreadable:
    """Decode a value for SESSION_KEY=token, where any value counts as a live session.

    `signed` is the value whose MAC is valid; None if that of `stored` is not. A value that another
    program wrote becomes a foreign session, of which nothing is believed. What claims to be a
    session of ours must have a valid MAC, and must not have been copied from another token.
    """
    if signed is None:
        claimed = decode_session(stored, token_id)
        ours = isinstance(claimed, Session) or claimed is Unreadable.MISMATCH
        return Unreadable.BAD_MAC if ours or has_mac(stored) else foreign_session(token_id)
    session = decode_session(signed, token_id)
    if session is Unreadable.MALFORMED or session is Unreadable.VERSION:
        return foreign_session(token_id)
    return session


def foreign_session(token_id: str, exp: float = FOREVER) -> Session:
    """Return the session for a value of another program: only the token names its user."""
    return Session(
        id=token_id, sid="", sub="", claims=_NO_CLAIMS, created=0.0, exp=exp, method=FOREIGN
    )


def encode_refresh(record: RefreshRecord, refresh_id: str) -> bytes:
    """Return the value to store under this refresh id; the value is bound to the id."""
    return _ENCODER.encode(_Bound(refresh_id, record))


def decode_refresh(value: bytes, refresh_id: str) -> RefreshRecord | Unreadable:
    """Decode the value stored under this refresh id, or say why it is not a record."""
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
    """Say why a value did not decode: a value of another version may have another shape."""
    try:
        found = msgspec.json.decode(value, type=shape)
    except _UNDECODABLE:
        return Unreadable.MALFORMED
    version = found.v if isinstance(found, _Versioned) else found.record.v
    return Unreadable.MALFORMED if version == VERSION else Unreadable.VERSION


def _makes_sense(sid: str, sub: str, created: float, exp: float) -> bool:
    return bool(sid and sub) and math.isfinite(created) and math.isfinite(exp)
