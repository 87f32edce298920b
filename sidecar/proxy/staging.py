"""What has arrived of a request's body and cannot be sent yet.

Owns the bytes and what they take of the data plane's buffer for bodies. It does not know whether
they wait for a session, the rest of the body or an upstream connection.
"""

from __future__ import annotations

import msgspec

from sidecar.proxy.fair_share import FairShare


class StagedBody(msgspec.Struct):
    """The first part of one request's body; sizes are in octets.

    `first` is what came with the head. Later parts are copied into one array: as objects, single
    octets would take forty times as much. It is a struct because its constructor runs in C: each
    request with a body has one.
    """

    first: bytes = b""
    later: bytearray | None = None
    charged: int = 0  # octets that `buffer` counts
    buffer: FairShare | None = None
    caller: str = ""

    def __repr__(self) -> str:
        return f"<StagedBody of {self.size} octets, {self.charged} charged>"

    @property
    def size(self) -> int:
        """The number of octets that are kept of the body."""
        return len(self.first) + (0 if self.later is None else len(self.later))

    def add(self, data: bytes) -> None:
        """Keep more of the body."""
        if self.later is None:
            self.later = bytearray(data)
        else:
            self.later += data

    def charge(self, buffer: FairShare, caller: str, beside: int) -> bool:
        """Count all that is kept in `buffer`; False if the caller has no room there for it.

        What waits with it, `beside` octets of the request's head, takes room as well.
        """
        kept = beside + self.size
        if not buffer.take(caller, kept - self.charged):
            return False
        self.buffer, self.caller, self.charged = buffer, caller, kept
        return True

    def behind(self, head: bytes) -> bytes:
        """Return this head and behind it what was kept, which is kept no longer."""
        first, later = self.first, self.later
        if self.charged:
            self.free()
        else:
            self.first, self.later = b"", None
        return head + first if later is None else b"".join((head, first, later))

    def free(self) -> None:
        """Keep nothing any more, and free the room that it took."""
        if self.buffer is not None:
            self.buffer.give_back(self.caller, self.charged)
            self.buffer, self.charged = None, 0
        self.first, self.later = b"", None
