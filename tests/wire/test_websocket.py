"""The boundaries of WebSocket frames, however the data is split."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.wire.websocket import (
    GOING_AWAY,
    POLICY_VIOLATION,
    Frames,
    close_frame,
    masked_close_frame,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def frame(size: int, *, masked: bool = False, opcode: int = 2) -> bytes:
    """Return a frame with a payload of this length (RFC 6455 section 5.2)."""
    mask = 0x80 if masked else 0
    if size < 126:
        length = bytes((mask | size,))
    elif size < 65536:
        length = bytes((mask | 126,)) + size.to_bytes(2)
    else:
        length = bytes((mask | 127,)) + size.to_bytes(8)
    return bytes((0x80 | opcode,)) + length + (b"mask" if masked else b"") + b"x" * size


SIZES = st.sampled_from([0, 1, 125, 126, 127, 300, 65535, 65536])


@given(st.lists(st.tuples(SIZES, st.booleans()), max_size=5), st.data())
def test_however_they_are_cut(frames: list[tuple[int, bool]], data: st.DataObject) -> None:
    """`between` is true exactly at the end of a frame."""
    raws = [frame(size, masked=masked) for size, masked in frames]
    whole = b"".join(raws)
    ends = {0, *accumulate(map(len, raws))}
    cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=8).map(sorted))
    followed, at = Frames(), 0
    for cut in [*cuts, len(whole)]:
        first = min((end for end in ends if at < end <= cut), default=-1)
        assert followed.follow(whole[at:cut]) == (first - at if first >= 0 else -1)
        at = cut
        assert followed.between is (at in ends)


@pytest.mark.parametrize("size", [0, 5, 126, 65536])
def test_octet_by_octet(size: int) -> None:
    """Frames are recognised if they arrive octet by octet."""
    raw, followed = frame(size, masked=True), Frames()
    found = [followed.follow(raw[at : at + 1]) for at in range(len(raw))]
    assert found == [-1] * (len(raw) - 1) + [1]


def test_a_close_is_a_frame() -> None:
    """The payload of a Close frame is its code in two octets (RFC 6455 section 5.5.1)."""
    raw = close_frame(POLICY_VIOLATION)
    assert raw == b"\x88\x02\x03\xf0"
    assert Frames().follow(raw) == len(raw)


@pytest.mark.parametrize("made", [close_frame, masked_close_frame])
def test_a_close_is_one_frame(made: Callable[[int], bytes]) -> None:
    """A Close frame of either side is tracked as one frame."""
    frames = Frames()
    close = made(GOING_AWAY)
    assert frames.follow(close) == len(close)
    assert frames.between
    assert close[0] == 0x88
    assert int.from_bytes(close[-2:]) == 1001
    assert bool(close[1] & 0x80) == (made is masked_close_frame)
