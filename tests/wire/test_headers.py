"""What is a token, what is the same name, and what lists and lengths mean."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.wire.headers import fold, is_token, joined, parse_length, parse_tokens, without


@settings(deadline=None)
@given(st.binary(max_size=8))
def test_is_token(value: bytes) -> None:
    """A token has the characters of RFC 9110 section 5.6.2."""
    tchar = set(b"!#$%&'*+-.^_`|~0123456789")
    tchar |= set(range(ord("a"), ord("z") + 1)) | set(range(ord("A"), ord("Z") + 1))
    assert is_token(value) is (bool(value) and set(value) <= tchar)


@pytest.mark.parametrize(
    ("value", "tokens"),
    [
        pytest.param(b"", [], id="empty"),
        pytest.param(b"close", [b"close"], id="one"),
        pytest.param(b"Keep-Alive,\tUPGRADE ", [b"keep-alive", b"upgrade"], id="two"),
        pytest.param(b",, a ,", [b"a"], id="empty-members"),  # 9110 section 5.6.1.2
        pytest.param(b"a b", [b"a b"], id="no-token"),
    ],
)
def test_tokens(value: bytes, tokens: list[bytes]) -> None:
    """A comma-separated list is read in lower case."""
    assert parse_tokens(value) == set(tokens)


def test_small_words() -> None:
    """Lists are joined, lines are left out and names are folded."""
    assert joined(None, b", ", b"a") == b"a"
    assert joined(b"a", b", ", b"b") == b"a, b"
    assert fold(b"X_Ab-C") == b"x-ab-c"
    lines = [b"A: 1\r\n", b"", b"b_c: 2\r\n"]
    assert without(lines, frozenset({b"b-c"})) == lines[:2]


@settings(deadline=None)
@given(st.integers(0, 10**18 - 1))
def test_any_length(length: int) -> None:
    """Decimal digits are parsed as the number that they represent."""
    assert parse_length(b"%d" % length) == length
