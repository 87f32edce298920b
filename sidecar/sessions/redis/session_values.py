"""The values of sessions and refresh tokens in Redis: what is stored, and whether it is valid.

Knows the format of these values, but no commands. What is invalid is counted, and is no session.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from sidecar.auth.session import (
    SessionKey,
    Unreadable,
    adopt_session,
    decode_refresh,
    decode_session,
    encode_refresh,
)
from sidecar.auth.value_mac import Purpose

if TYPE_CHECKING:
    from sidecar.auth.session import RefreshRecord, Session
    from sidecar.auth.value_mac import ValueMac
    from sidecar.sessions.redis.key_names import KeyNames
    from sidecar.sessions.redis.stored_values import StoredValues

_MARK: Final = 8  # bytes of a claim's mark, before the record in `used`


class SessionValues:
    """Reads the values under `names`. With `SessionKey.TOKEN`, any value is a live session."""

    __slots__ = ("_mac", "_names", "_session_key", "_values")

    def __init__(
        self, names: KeyNames, values: StoredValues, mac: ValueMac, session_key: SessionKey
    ) -> None:
        self._names = names
        self._values = values
        self._mac = mac
        self._session_key = session_key

    def __repr__(self) -> str:
        return f"<SessionValues by {self._session_key}>"

    def session(self, token_id: str, stored: bytes) -> Session | Unreadable:
        """The session in the value under a token id, or why it is none."""
        signed = self._mac.verify(Purpose.SESSION, self._names.token(token_id), stored)
        if self._session_key is SessionKey.TOKEN:
            found = adopt_session(signed, stored, token_id)
        elif signed is None:
            found = Unreadable.BAD_MAC
        else:
            found = decode_session(signed, token_id)
        if isinstance(found, Unreadable):
            self._values.reject(Purpose.SESSION, found)
        return found

    def used(self, refresh_id: str, record: RefreshRecord) -> bytes:
        """The value that marks a refresh token as used. No two are equal.

        It recognises this claim when it is sent twice because the first answer was lost.
        """
        value = secrets.token_bytes(_MARK) + encode_refresh(record, refresh_id)
        return self._values.sign(Purpose.USED, self._names.refresh(refresh_id), value)

    def record(
        self, refresh_id: str, record: bytes | None, used: bytes | None
    ) -> RefreshRecord | None:
        """The used record, or else the live one. None if there was never a live one."""
        key = self._names.refresh(refresh_id)
        value = self._values.verify(Purpose.REFRESH, key, record)
        if value is not None and used is not None:
            signed = self._values.verify(Purpose.USED, key, used)
            value = None if signed is None else signed[_MARK:]
        if value is None:
            return None
        found = decode_refresh(value, refresh_id)
        if isinstance(found, Unreadable):
            self._values.reject(Purpose.REFRESH, found)
            return None
        return found
