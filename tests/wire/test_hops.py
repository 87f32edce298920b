"""Max-Forwards: decremented if present, answered at zero, refused if malformed."""

from __future__ import annotations

import pytest

from sidecar.errors import PeerError
from sidecar.wire.hops import decrement_max_forwards
from tests.wire.readers import content, passed_on, read_request

FIRST = b"OPTIONS /x HTTP/1.1"


@pytest.mark.parametrize(
    ("received", "sent"),
    [
        pytest.param(b"Max-Forwards: 1", b"Max-Forwards: 0", id="one"),
        pytest.param(b"Max-Forwards: 10", b"Max-Forwards: 9", id="ten"),
        pytest.param(b"max-forwards:007 ", b"max-forwards: 6", id="as-it-is-spelt"),
        pytest.param(b"Max-Forwards: 999999999", b"Max-Forwards: 999999998", id="most"),
        pytest.param(b"Max-Forwards: 1000000000", b"Max-Forwards: 999999999", id="more"),
        pytest.param(
            b"Max-Forwards: " + b"9" * 5000, b"Max-Forwards: 999999999", id="digits-without-end"
        ),
    ],
)
def test_one_less(received: bytes, sent: bytes) -> None:
    """The value is decremented, and limited, in its place; the head is not modified."""
    head = read_request(b"A: 1", received, b"B: 2", first=FIRST)
    before = content(head)
    lower = decrement_max_forwards(head)
    assert lower is not None
    assert passed_on(lower) == [b"Host: h", b"A: 1", sent, b"B: 2"]
    assert content(head) == before


@pytest.mark.parametrize("value", [b"0", b"000", b"0" * 5000], ids=["zero", "zeros", "many"])
def test_the_last_hop(value: bytes) -> None:
    """A request with the value zero is not forwarded."""
    assert decrement_max_forwards(read_request(b"Max-Forwards: " + value, first=FIRST)) is None


@pytest.mark.parametrize(
    "line", [b"A: 1", b"Max_Forwards: 0", b"X-Max-Forwards: 0", b"A: Max-Forwards: 0"]
)
def test_no_limit(line: bytes) -> None:
    """Without this exact header there is no limit, and the head is returned unchanged."""
    head = read_request(line, first=FIRST)
    assert decrement_max_forwards(head) is head


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param((b"Max-Forwards:",), id="empty"),
        pytest.param((b"Max-Forwards: -1",), id="minus"),
        pytest.param((b"Max-Forwards: +1",), id="plus"),
        pytest.param((b"Max-Forwards: 1.0",), id="fraction"),
        pytest.param((b"Max-Forwards: 1, 2",), id="list"),
        pytest.param((b"Max-Forwards: 1 2",), id="two-words"),
        pytest.param((b"Max-Forwards: \xb2",), id="not-ascii"),
        pytest.param((b"Max-Forwards: 1", b"Max-Forwards: 1"), id="twice"),
        pytest.param((b"Max-Forwards: 0", b"max-forwards: 5"), id="two"),
    ],
)
def test_malformed(lines: tuple[bytes, ...]) -> None:
    """A malformed or repeated value is refused."""
    with pytest.raises(PeerError) as refused:
        decrement_max_forwards(read_request(*lines, first=FIRST))
    assert refused.value.status == 400


def test_connection_cannot_take_it_away() -> None:
    """Max-Forwards is for every hop, so Connection cannot remove it."""
    head = read_request(b"Connection: Max-Forwards", b"Max-Forwards: 0", first=FIRST)
    assert decrement_max_forwards(head) is None
