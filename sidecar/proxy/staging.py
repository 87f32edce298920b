"""What has arrived of a request's body and cannot be sent yet.

Owns the bytes and the room that is counted for them. It does not know whether they wait for a
session, the rest of the body or an upstream connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.proxy.held import HeldOctets, Holder


class StagedBody:
    """The first part of one request's body; sizes are in octets.

    `first` is what came with the head. Later parts are copied into one array: as objects, single
    octets would take forty times as much.
    """

    __slots__ = ("first", "holder", "later", "room")

    def __init__(self, first: bytes = b"") -> None:
        self.first = first
        self.later: bytearray | None = None
        self.room: HeldOctets | None = None  # where it is counted, in the name of `holder`
        self.holder: Holder | None = None

    def __repr__(self) -> str:
        return f"<StagedBody of {self.size} octets in {self.room!r}>"

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

    def count(self, room: HeldOctets, holder: Holder, caller: str, beside: int) -> None:
        """Count all that is kept in `room`, where this or another holder may have to give up.

        What waits with it, `beside` octets of the request's head, takes room as well.
        """
        if self.room is not room:
            self._move(room, holder)
        room.put(holder, beside + self.size, caller)

    def count_if_fair(self, room: HeldOctets, holder: Holder, caller: str, beside: int) -> bool:
        """Do as `count`, but return False if `caller` keeps too much there already."""
        if self.room is not room:
            self._move(room, holder)
        return room.put_if_fair(holder, beside + self.size, caller)

    def _move(self, room: HeldOctets, holder: Holder) -> None:
        if self.room is not None:
            self.room.drop(holder)
        self.room, self.holder = room, holder

    def behind(self, head: bytes) -> bytes:
        """Return this head and behind it what was kept, which is kept no longer."""
        first, later = self.first, self.later
        if self.room is None:
            self.first, self.later = b"", None
        else:
            self.free()
        return head + first if later is None else b"".join((head, first, later))

    def free(self) -> None:
        """Keep nothing any more, and free the room that it took."""
        if self.room is not None and self.holder is not None:
            self.room.drop(self.holder)
            self.room = self.holder = None  # it and its holder do not keep each other alive
        self.first, self.later = b"", None
