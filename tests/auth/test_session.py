"""Session values: they are decoded as encoded, and any other value gives a reason."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.auth.session import (
    FOREIGN,
    FOREVER,
    ClaimsInterner,
    RefreshRecord,
    Session,
    SessionKey,
    TimestampInterner,
    Unreadable,
    adopt_session,
    decode_refresh,
    decode_session,
    encode_refresh,
    encode_session,
    foreign_session,
    refresh_id,
    token_id,
)
from sidecar.auth.value_mac import Purpose
from tests.auth.forge import unhurried
from tests.peers.signed import MAC

SESSION = Session(id="i1", sid="s1", sub="alice", claims={"roles": ["a"]}, created=1.5, exp=2.5)
RECORD = RefreshRecord(
    sid="s1",
    sub="alice",
    created=1.5,
    exp=2.5,
    token_id="i1",
    claims={"roles": ["a"]},
    used_at=2.0,
    sealed=b"\x00\xff",
)


def changed(value: bytes, **members: Any) -> bytes:
    """Return an encoded session with changed members; None leaves a member out."""
    merged = json.loads(value) | members
    return json.dumps({k: v for k, v in merged.items() if v is not None}).encode()


def changed_record(value: bytes, **members: Any) -> bytes:
    """Return an encoded refresh record with changed members; None leaves a member out."""
    outer = json.loads(value)
    return json.dumps(
        outer | {"record": json.loads(changed(json.dumps(outer["record"]).encode(), **members))}
    ).encode()


def test_token_ids() -> None:
    """A session is stored under the credential's SHA-256, or under the credential itself."""
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert token_id(b"abc") == refresh_id(b"abc") == digest
    assert token_id(b"abc", SessionKey.TOKEN) == "abc"


def test_session_round_trip() -> None:
    """A session is decoded as it was encoded."""
    assert decode_session(encode_session(SESSION), "i1") == SESSION


def test_refresh_round_trip() -> None:
    """A refresh record is decoded as it was encoded, including its sealed bytes."""
    assert decode_refresh(encode_refresh(RECORD, "r1"), "r1") == RECORD


NOT_JSON = [
    pytest.param(b"", id="empty"),
    pytest.param(b"1", id="number"),
    pytest.param(b"null", id="null"),
    pytest.param(b"[]", id="list"),
    pytest.param(b"{}", id="no-members"),
    pytest.param(b"{", id="unfinished"),
    pytest.param(b"OK", id="word"),
    pytest.param(b'"\xff"', id="not-utf-8"),
    pytest.param(b'{"\xff": 1}', id="name-not-utf-8"),
    pytest.param(b"\x80\x04K\x01.", id="pickle"),
    pytest.param(b'{"id":' + b"[" * 5000, id="deep"),
    pytest.param(b'{"v": 1}', id="only-version"),
    pytest.param(b'{"v": "2"}', id="version-is-text"),
]


@pytest.mark.parametrize("value", NOT_JSON)
def test_malformed_values(value: bytes) -> None:
    """A value in another format is malformed, as a session and as a refresh record."""
    assert decode_session(value, "i1") is Unreadable.MALFORMED
    assert decode_refresh(value, "r1") is Unreadable.MALFORMED


@pytest.mark.parametrize(
    ("members", "why"),
    [
        pytest.param({"extra": 1}, None, id="unknown-member"),
        pytest.param({"id": "i2"}, Unreadable.MISMATCH, id="other-token"),
        pytest.param({"id": ""}, Unreadable.MISMATCH, id="no-token"),
        pytest.param({"v": 2}, Unreadable.VERSION, id="other-version"),
        pytest.param({"v": 0, "sid": None}, Unreadable.VERSION, id="other-version-and-shape"),
        pytest.param({"v": 2, "id": "i2"}, Unreadable.VERSION, id="other-version-and-token"),
        pytest.param({"sid": None}, Unreadable.MALFORMED, id="member-missing"),
        pytest.param({"sid": ""}, Unreadable.MALFORMED, id="no-sid"),
        pytest.param({"sub": ""}, Unreadable.MALFORMED, id="no-subject"),
        pytest.param({"sub": 7}, Unreadable.MALFORMED, id="subject-is-a-number"),
        pytest.param({"exp": "9"}, Unreadable.MALFORMED, id="expiry-is-text"),
        pytest.param({"exp": True}, Unreadable.MALFORMED, id="expiry-is-true"),
        pytest.param({"exp": math.nan}, Unreadable.MALFORMED, id="expiry-is-nan"),
        pytest.param({"exp": math.inf}, Unreadable.MALFORMED, id="expiry-is-infinite"),
        pytest.param({"exp": 10**400}, Unreadable.MALFORMED, id="expiry-has-400-digits"),
        pytest.param({"created": 10**400}, Unreadable.MALFORMED, id="created-has-400-digits"),
        pytest.param({"claims": []}, Unreadable.MALFORMED, id="claims-are-a-list"),
    ],
)
def test_changed_session(members: dict[str, Any], why: Unreadable | None) -> None:
    """A value that is bound to another token, or has another version, is not a session."""
    value = changed(encode_session(SESSION), **members)
    assert decode_session(value, "i1") == (why or SESSION)


@pytest.mark.parametrize(
    ("members", "why"),
    [
        pytest.param({"extra": 1}, None, id="unknown-member"),
        pytest.param({"v": 2}, Unreadable.VERSION, id="other-version"),
        pytest.param({"v": 2, "sid": None}, Unreadable.VERSION, id="other-version-and-shape"),
        pytest.param({"sid": None}, Unreadable.MALFORMED, id="member-missing"),
        pytest.param({"sub": ""}, Unreadable.MALFORMED, id="no-subject"),
        pytest.param({"sealed": "%"}, Unreadable.MALFORMED, id="sealed-is-not-base64"),
        pytest.param({"exp": math.nan}, Unreadable.MALFORMED, id="expiry-is-nan"),
    ],
)
def test_changed_record(members: dict[str, Any], why: Unreadable | None) -> None:
    """A changed refresh record is refused for the same reasons as a session."""
    value = changed_record(encode_refresh(RECORD, "r1"), **members)
    assert decode_refresh(value, "r1") == (why or RECORD)


def test_copied_record() -> None:
    """A refresh record that is stored under another token's id is refused."""
    assert decode_refresh(encode_refresh(RECORD, "r1"), "r2") is Unreadable.MISMATCH


@pytest.mark.parametrize(
    "value", [*NOT_JSON, pytest.param(changed(encode_session(SESSION), v=2), id="other-version")]
)
@pytest.mark.parametrize("is_signed", [True, False])
def test_adopted_value(value: bytes, *, is_signed: bool) -> None:
    """With SESSION_KEY=token, any foreign value is a live session of an unknown user."""
    adopted = adopt_session(value if is_signed else None, value, "i1")
    assert adopted == foreign_session("i1")
    assert isinstance(adopted, Session)
    assert (adopted.sid, adopted.sub, adopted.exp, adopted.method) == ("", "", FOREVER, FOREIGN)


def test_adopted_session() -> None:
    """With SESSION_KEY=token, our own values stay bound to their tokens."""
    value = encode_session(SESSION)
    assert adopt_session(value, value, "i1") == SESSION
    assert adopt_session(value, value, "i2") is Unreadable.MISMATCH


@pytest.mark.parametrize("token_id", ["i1", "i2"])
def test_a_value_that_claims_to_be_ours(token_id: str) -> None:
    """With SESSION_KEY=token, nothing that claims to be ours is adopted without a valid MAC."""
    value = encode_session(SESSION)
    assert adopt_session(None, value, token_id) is Unreadable.BAD_MAC
    stored = MAC.sign(Purpose.SESSION, b"another key", b"anything")
    assert adopt_session(None, stored, token_id) is Unreadable.BAD_MAC


JSON = st.recursive(
    st.none() | st.booleans() | st.text() | st.integers(-(2**53), 2**53),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
TIMES = st.floats(0, 1e11)


@unhurried
@given(
    st.builds(
        Session,
        id=st.text(),
        sid=st.text(min_size=1),
        sub=st.text(min_size=1),
        claims=st.dictionaries(st.text(), JSON, max_size=4),
        created=TIMES,
        exp=TIMES,
        method=st.text(),
    )
)
def test_any_session_round_trip(session: Session) -> None:
    """Any valid session is decoded as it was encoded."""
    assert decode_session(encode_session(session), session.id) == session


@unhurried
@given(st.binary() | JSON.map(msgspec.json.encode))
def test_never_raises(value: bytes) -> None:
    """Any bytes decode to a session or to the reason why not."""
    assert isinstance(decode_session(value, "i1"), Unreadable)
    assert isinstance(decode_refresh(value, "r1"), Unreadable)
    assert isinstance(adopt_session(value, value, "i1"), Session)


def test_equal_claims_are_one_object() -> None:
    """Equal claims give one object; `true`, 1 and 1.0 differ, and large claims are not kept."""
    claims = ClaimsInterner()
    first = claims.shared({"roles": ["user"]})
    assert claims.shared({"roles": ["user"]}) is first
    assert first == {"roles": ["user"]}
    values: list[object] = [True, 1, 1.0, "1", None]
    assert [claims.shared({"level": value})["level"] for value in values] == values
    assert len({type(claims.shared({"level": value})["level"]) for value in values}) == 5
    large = {"groups": ["group"] * 100}
    assert claims.shared(large) is large
    assert claims.shared(dict(large)) is not large
    for number in range(5000):
        assert claims.shared({"number": number}) == {"number": number}
    assert claims.shared({"number": 4999}) is claims.shared({"number": 4999})
    assert repr(claims) == "<ClaimsInterner 910 known>"


def test_equal_timestamps_are_one_object() -> None:
    """Equal times give one object, and the number of remembered times is limited."""
    timestamps = TimestampInterner()
    first = timestamps[float("1000.5")]
    assert first == 1000.5
    assert timestamps[float("1000.5")] is first
    for number in range(10_000):
        assert timestamps[float(number)] == number
    assert len(timestamps) <= 4096
