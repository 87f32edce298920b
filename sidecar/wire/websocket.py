"""WebSocket frames as far as a tunnel needs them: where one ends, so that a Close can follow it.

RFC 6455 section 5.2. Reads lengths only; what stands in a frame is nobody's business here.
"""

from __future__ import annotations

from typing import Final

# RFC 6455 section 7.4.1
GOING_AWAY: Final = 1001
POLICY_VIOLATION: Final = 1008

_HEAD: Final = 14  # octets of the longest frame head
_NO_END: Final = -1


def close_frame(code: int) -> bytes:
    """A Close from a server, which masks nothing."""
    return b"\x88\x02" + code.to_bytes(2)


def masked_close_frame(code: int) -> bytes:
    """A Close from a client, which masks everything; with a mask of zeros, for it hides nothing."""
    return b"\x88\x82\0\0\0\0" + code.to_bytes(2)


class Frames:
    """Follows one direction of a connection, from its first frame on."""

    __slots__ = ("_head", "_left")

    def __init__(self) -> None:
        self._head = b""  # of a frame whose length is not known yet
        self._left = 0  # octets of the frame under way

    def __repr__(self) -> str:
        return f"<Frames between={self.between}>"

    @property
    def between(self) -> bool:
        """Whether no frame is under way."""
        return not self._left and not self._head

    def follow(self, data: bytes) -> int:
        """Follow these octets; where in them the first end of a frame is, -1 if there is none."""
        at, size, first = 0, len(data), _NO_END
        while at < size:
            if not self._left:
                at = self._read_head(data, at)
                if self._head:
                    break  # the rest of it is to come
            step = min(self._left, size - at)
            self._left -= step
            at += step
            if not self._left and first == _NO_END:
                first = at
        return first

    def _read_head(self, data: bytes, at: int) -> int:
        """Read the head that begins, or goes on, here; where it ends."""
        before = len(self._head)
        head = self._head + data[at : at + _HEAD - before]
        length = _length(head)
        if length is None:
            self._head = head
            return at + len(head) - before
        self._head = b""
        whole, self._left = length
        return at + whole - before


def _length(head: bytes) -> tuple[int, int] | None:
    """Octets of a frame's head and of what follows it; None while that does not show."""
    if len(head) < 2:
        return None
    masked, short = head[1] & 0x80, head[1] & 0x7F
    size = 2 + {126: 2, 127: 8}.get(short, 0) + (4 if masked else 0)
    if len(head) < size:
        return None
    if short < 126:
        return size, short
    return size, int.from_bytes(head[2 : 4 if short == 126 else 10])
