"""What has arrived of a request's body and cannot be sent yet.

Owns the bytes and what they take of the data plane's buffer for bodies. It does not know whether
they wait for a session, the rest of the body or an upstream connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.proxy.fair_share import FairShare


class StagedBody:
    """The first part of one request's body. `size` is in octets.

    What waits with it, `beside` octets of the request's head, takes room in the buffer as well.
    Later parts are copied into one array: as objects, single octets would take forty times as much.
    """

    __slots__ = ("_beside", "_buffer", "_caller", "_charged", "_first", "_rest", "size")

    def __init__(self, first: bytes = b"", beside: int = 0) -> None:
        self._beside = beside
        self._first = first
        self._rest: bytearray | None = None
        self.size = len(first)
        self._charged = 0  # octets that `_buffer` counts
        self._buffer: FairShare | None = None
        self._caller = ""

    def __repr__(self) -> str:
        return f"<StagedBody of {self.size} octets, {self._charged} charged>"

    def add(self, data: bytes) -> None:
        """Keep more of the body."""
        if not data:
            return
        if self._rest is None:
            self._rest = bytearray(data)
        else:
            self._rest += data
        self.size += len(data)

    def charge(self, buffer: FairShare, caller: str) -> bool:
        """Count all that is kept in `buffer`; False if the caller has no room there for it."""
        self._buffer, self._caller = buffer, caller
        kept = self._beside + self.size
        if not buffer.take(caller, kept - self._charged):
            return False
        self._charged = kept
        return True

    def free(self) -> tuple[bytes, bytes | bytearray]:
        """Return what was kept, in order, and free the room that it took; then nothing is kept."""
        if self._buffer is not None:
            self._buffer.give_back(self._caller, self._charged)
            self._charged = 0
        parts = self._first, self._rest or b""
        self._first, self._rest, self.size = b"", None, 0
        return parts
