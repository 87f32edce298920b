"""How the control plane names the caller of a request to the data plane."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.wire.caller_line import CALLER_HEADER, read_caller, write_caller
from sidecar.wire.field_lines import FieldLines
from sidecar.wire.head import HeadLimits
from sidecar.wire.header_kinds import HeaderKinds
from sidecar.wire.responses import ResponseParser

TEXTS = st.text(st.characters(codec="utf-8"), max_size=50)


@given(TEXTS, TEXTS, TEXTS)
def test_what_is_written_is_read(user: str, issuer: str, sid: str) -> None:
    """Any texts come back, and the value is one that a header may have."""
    value = write_caller(user, issuer, sid)
    assert value.isascii()
    assert value.isprintable()
    assert read_caller(value.encode()) == (user, issuer, sid)


def test_a_lone_surrogate_breaks_nothing() -> None:
    """A text that no UTF-8 has, such as a token may contain, is written as a question mark."""
    assert read_caller(write_caller("a\ud800", "", "").encode()) == ("a?", "", "")


@pytest.mark.parametrize("value", [b"", b"a", b"a b", b"a b c d", b"\xff"])
def test_a_malformed_value_names_nobody(value: bytes) -> None:
    """A value that does not have three parts names nobody."""
    assert read_caller(value) == ("", "", "")


@pytest.mark.parametrize(
    ("kinds", "caller", "passed"),
    [
        pytest.param(HeaderKinds.of_control_plane(), b"a b c", False, id="control-plane"),
        pytest.param(HeaderKinds.of_responses(), b"", True, id="application"),
    ],
)
def test_only_the_control_plane_names_callers(
    kinds: HeaderKinds, caller: bytes, *, passed: bool
) -> None:
    """The line is read and taken off an answer of the control plane, and no other."""
    parser = ResponseParser(FieldLines(kinds), HeadLimits())
    raw = f"HTTP/1.1 200 OK\r\n{CALLER_HEADER}: a b c\r\n\r\n".encode()
    head = parser.parse(raw, to_head=False)
    assert head.caller == caller
    assert (CALLER_HEADER.encode() in head.lines) is passed
