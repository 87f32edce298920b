"""Stored values: readable only under their own id, otherwise a reason; stable when rewritten."""

from __future__ import annotations

import math
from typing import Final

from sidecar.auth.session import (
    FOREIGN,
    RefreshRecord,
    Session,
    Unreadable,
    adopt_session,
    decode_refresh,
    decode_session,
    encode_refresh,
    encode_session,
)

ID: Final = "id"


def check(data: bytes) -> None:
    """Decode the value as a session and as the record of a refresh token."""
    session = decode_session(data, ID)
    if isinstance(session, Session):
        assert session.id == ID
        assert session.sid
        assert session.sub
        assert math.isfinite(session.exp)
        assert decode_session(encode_session(session), ID) == session
        assert decode_session(data, "other") is Unreadable.MISMATCH
    else:
        assert isinstance(session, Unreadable)
    adopted = adopt_session(data, data, ID)
    foreign = adopt_session(None, data, ID)
    if session is Unreadable.MISMATCH:
        assert (adopted, foreign) == (Unreadable.MISMATCH, Unreadable.BAD_MAC)
    elif isinstance(session, Unreadable):
        assert isinstance(adopted, Session)
        assert (adopted.method, adopted.sub, adopted.claims) == (FOREIGN, "", {})
        assert foreign in (adopted, Unreadable.BAD_MAC)
    else:
        assert (adopted, foreign) == (session, Unreadable.BAD_MAC)
    record = decode_refresh(data, ID)
    if isinstance(record, RefreshRecord):
        assert record.sid
        assert record.sub
        assert decode_refresh(encode_refresh(record, ID), ID) == record
        assert decode_refresh(data, "other") is Unreadable.MISMATCH
    else:
        assert isinstance(record, Unreadable)
