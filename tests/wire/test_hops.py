"""Max-Forwards: counted down where it is, stopped at zero, refused where it cannot be read."""

from __future__ import annotations

import pytest

from sidecar.errors import PeerError
from sidecar.wire.hops import one_hop_less
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
    """The lesser of one less and what is kept here, in its place; the head stays as it was."""
    head = read_request(b"A: 1", received, b"B: 2", first=FIRST)
    before = content(head)
    lower = one_hop_less(head)
    assert lower is not None
    assert passed_on(lower) == [b"Host: h", b"A: 1", sent, b"B: 2"]
    assert content(head) == before


@pytest.mark.parametrize("value", [b"0", b"000", b"0" * 5000], ids=["zero", "zeros", "many"])
def test_the_last_hop(value: bytes) -> None:
    """At zero it goes no further."""
    assert one_hop_less(read_request(b"Max-Forwards: " + value, first=FIRST)) is None


@pytest.mark.parametrize(
    "line", [b"A: 1", b"Max_Forwards: 0", b"X-Max-Forwards: 0", b"A: Max-Forwards: 0"]
)
def test_no_limit(line: bytes) -> None:
    """Without this very header there is none, and the head is the same."""
    head = read_request(line, first=FIRST)
    assert one_hop_less(head) is head


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
    """How far it may go is not known."""
    with pytest.raises(PeerError) as refused:
        one_hop_less(read_request(*lines, first=FIRST))
    assert refused.value.status == 400


def test_connection_cannot_take_it_away() -> None:
    """It is meant for all on the way, and none of them may be told that it ends here."""
    head = read_request(b"Connection: Max-Forwards", b"Max-Forwards: 0", first=FIRST)
    assert one_hop_less(head) is None
