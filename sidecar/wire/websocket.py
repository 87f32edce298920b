"""Finds the boundaries of WebSocket frames, where a tunnel may insert a Close frame.

RFC 6455 section 5.2. Reads only the lengths, never the contents of frames.
"""

from __future__ import annotations

from typing import Final

# RFC 6455 section 7.4.1
GOING_AWAY: Final = 1001
POLICY_VIOLATION: Final = 1008

_HEAD: Final = 14  # octets of the longest frame head
_NO_END: Final = -1


def close_frame(code: int) -> bytes:
    """Return a Close frame as a server sends it, unmasked."""
    return b"\x88\x02" + code.to_bytes(2)


def masked_close_frame(code: int) -> bytes:
    """Return a Close frame as a client sends it, masked (with zeros, as it hides nothing)."""
    return b"\x88\x82\0\0\0\0" + code.to_bytes(2)


class Frames:
    """Tracks the frames in one direction of a connection, starting with the first."""

    __slots__ = ("_head", "_left")

    def __init__(self) -> None:
        self._head = b""  # the start of a frame head that is still incomplete
        self._left = 0  # octets that remain of the current frame

    def __repr__(self) -> str:
        return f"<Frames between={self.between}>"

    @property
    def between(self) -> bool:
        """Whether the data so far ends at the end of a frame."""
        return not self._left and not self._head

    def follow(self, data: bytes) -> int:
        """Track these octets. Returns the position of the first end of a frame in them, or -1."""
        at, size, first = 0, len(data), _NO_END
        while at < size:
            if not self._left:
                at = self._read_head(data, at)
                if self._head:
                    break  # the frame head is still incomplete
            step = min(self._left, size - at)
            self._left -= step
            at += step
            if not self._left and first == _NO_END:
                first = at
        return first

    def _read_head(self, data: bytes, at: int) -> int:
        """Read a frame head, or the rest of one, at this position. Returns where it ends."""
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
    """Return the octets of a frame's head and of its payload, or None if the head is too short."""
    if len(head) < 2:
        return None
    masked, short = head[1] & 0x80, head[1] & 0x7F
    size = 2 + {126: 2, 127: 8}.get(short, 0) + (4 if masked else 0)
    if len(head) < size:
        return None
    if short < 126:
        return size, short
    return size, int.from_bytes(head[2 : 4 if short == 126 else 10])
