"""Strict JSON: a document has one meaning, or is rejected."""

from __future__ import annotations

import json
from typing import Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.auth.strict_json import MAX_DEPTH, parse_object, parse_trusted
from tests.auth.forge import unhurried


def nested(depth: int) -> bytes:
    """Return an object with this many nested containers, including itself."""
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        pytest.param(b"{}", {}, id="empty"),
        pytest.param(
            b' {"a": [1, 2.5, null, true, "x"]}\n', {"a": [1, 2.5, None, True, "x"]}, id="all"
        ),
        pytest.param('{"ä": "日"}'.encode(), {"ä": "日"}, id="utf-8"),
        pytest.param(rb'{"a": "\u00e4\ud83d\ude00"}', {"a": "ä😀"}, id="escapes"),
        pytest.param(b'{"a": {"a": 1}}', {"a": {"a": 1}}, id="same-name-deeper"),
        pytest.param(b'{"a": "' + b"[" * 100 + b'"}', {"a": "[" * 100}, id="brackets-in-text"),
    ],
)
def test_objects(raw: bytes, value: dict[str, object]) -> None:
    """A JSON object in UTF-8 is parsed."""
    assert parse_object(raw) == value


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="list"),
        pytest.param(b'"a"', id="text"),
        pytest.param(b"null", id="null"),
        pytest.param(b"{", id="unfinished"),
        pytest.param(b"{} {}", id="two"),
        pytest.param(b"{}\0", id="nul-after"),
        pytest.param(b"{'a': 1}", id="single-quotes"),
        pytest.param(b'{"a": 1,}', id="trailing-comma"),
        pytest.param(b'{"a": 1, "a": 1}', id="twice"),
        pytest.param(rb'{"a": 1, "\u0061": 1}', id="twice-escaped"),
        pytest.param(b'{"b": [{"a": 1, "a": 2}]}', id="twice-deeper"),
        pytest.param(b'{"a": NaN}', id="nan"),
        pytest.param(b'{"a": Infinity}', id="infinity"),
        pytest.param(b'{"a": -Infinity}', id="minus-infinity"),
        pytest.param(b'{"a": 1e999}', id="float-out-of-range"),
        pytest.param(b'{"a": ' + b"9" * 5000 + b"}", id="too-many-digits"),
        pytest.param(b'{"a":' + b"9" * 5000 + b"}", id="too-many-digits-canonical"),
        pytest.param(b'{"a":1,"a":1}', id="twice-canonical"),
        pytest.param(b'{"b":[{"a":1,"a":1}]}', id="twice-deeper-canonical"),
        pytest.param(b'{"a":1}\n\0', id="nul-after-the-line"),
        pytest.param(b'{"a": "\x01"}', id="control-character"),
        pytest.param(b'{"a": "\xff"}', id="not-utf-8"),
        pytest.param(b'{"a": "\xed\xa0\x80"}', id="surrogate-in-utf-8"),
        pytest.param(rb'{"a": "\ud800"}', id="lone-surrogate"),
        pytest.param(rb'{"\udfff": 1}', id="lone-surrogate-in-name"),
        pytest.param(b'\xef\xbb\xbf{"a": 1}', id="byte-order-mark"),
        pytest.param('{"a": 1}'.encode("utf-16"), id="utf-16"),
        pytest.param('{"a": 1}'.encode("utf-16-le"), id="utf-16-le"),
        pytest.param('{"a": 1}'.encode("utf-32"), id="utf-32"),
        pytest.param(nested(MAX_DEPTH + 1), id="deep"),
        pytest.param(nested(4000), id="very-deep"),
        pytest.param(b'{"a":' * 4000, id="very-deep-unfinished"),
    ],
)
def test_no_objects(raw: bytes) -> None:
    """A document that parsers could read differently, or could not encode again, is rejected."""
    assert parse_object(raw) is None


def test_deepest() -> None:
    """Nesting is accepted up to the limit."""
    assert parse_object(nested(MAX_DEPTH)) is not None


def test_broad() -> None:
    """Many objects side by side do not count as nesting."""
    assert parse_object(b'{"a": [' + b",".join([b"{}"] * 100) + b"]}") == {"a": [{}] * 100}


VALUES: Final = st.dictionaries(
    st.text(),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=10,
    ),
    max_size=5,
)
# Pieces of JSON, from which documents are put together that a parser could read in two ways
PIECES: Final = st.sampled_from(
    (
        *(
            '{"a":1}',
            '{"a":1,"a":1}',
            '{"a":{"b":2},"c":[]}',
            "1",
            "-0",
            "0.0",
            "1e5",
            "1E5",
            "1.50",
        ),
        *(
            '"a":',
            '"b":',
            '"\\u0061":',
            '"\\/"',
            '"/"',
            '"é"',
            '"\\u00e9"',
            '"\\ud800"',
            "null",
            "NaN",
        ),
        *("{", "}", "[", "]", ",", " ", "\n", "1e-400", "1e400", "123456789012345678901234567890"),
        *("5e-324", "0.1", "123456789.123456789", "-1", "01", "true", "false", "\x7f", "\ufeff"),
    )
)


def read_slowly(raw: bytes) -> dict[str, object] | None:
    """Parse the document after a space, which no encoder writes: with the strict decoder alone."""
    return parse_object(b" " + raw)


@unhurried
@given(
    VALUES,
    st.booleans(),
)
def test_round_trip(value: dict[str, object], ascii_only: bool) -> None:  # noqa: FBT001
    """Anything that an encoder writes is parsed back to the same value."""
    assert parse_object(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@unhurried
@given(VALUES)
def test_canonical_form_is_read_alike(value: dict[str, object]) -> None:
    """What an encoder writes without white space is read as the strict decoder reads it."""
    raw = msgspec.json.encode(value)
    assert repr(parse_object(raw)) == repr(read_slowly(raw)) == repr(parse_trusted(raw))


@unhurried
@given(st.lists(PIECES, max_size=12).map("".join))
def test_any_document_is_read_alike(text: str) -> None:
    """White space before a document changes neither what it means nor whether it is accepted."""
    raw = f'{{"x":{text}}}'.encode("utf-8", "surrogatepass")
    read = parse_object(raw)
    assert repr(read) == repr(read_slowly(raw))
    if read is not None:
        assert repr(parse_trusted(raw)) == repr(read)


@unhurried
@given(st.binary())
def test_never_raises(raw: bytes) -> None:
    """Any bytes give an object or None."""
    value = parse_object(raw)
    assert value is None or json.dumps(value, ensure_ascii=False).encode()


def test_trusted_json() -> None:
    """Bytes that were accepted before are parsed to the same object."""
    raw = b'{"sub": "alice", "level": [1, 2.5, null]}'
    assert parse_trusted(raw) == parse_object(raw)
