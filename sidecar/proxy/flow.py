"""Flow control of a transport: why it is not read, and how fast its peer takes what is written.

Owns the set of reasons to hold reading, the time by which more must have been taken, and how a
connection is broken off visibly.
"""

from __future__ import annotations

import socket
import struct
from fcntl import ioctl
from termios import FIONREAD, TIOCOUTQ
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

# A transport that has this much waiting to be written asks for a pause, in octets. uvloop reads up
# to 256 KiB at once, so a lower mark would pause on every read (measured on 1 MiB bodies: 30 % more
# CPU).
HIGH_WATER: Final = 256 * 1024


NEVER: Final = float("inf")
_NO_LINGER: Final = struct.pack("ii", 1, 0)
_COUNT: Final = struct.Struct("i")
_UNKNOWN: Final = -1

# Why reading is held. Plain numbers: an operation on flags costs 1 µs in Python 3.11.
PEER_FULL: Final = 1  # the side it is relayed to does not take more
NO_PEER: Final = 2  # there is no side to relay to yet
BACKLOG: Final = 4  # pipelined requests wait for the answer before theirs


def reset(transport: asyncio.Transport) -> None:
    """Break the connection off so that the peer sees an error and takes nothing for complete.

    A plain close would look like an end, and where only the end of the connection delimits a body,
    like its end: with a linger time of zero the kernel sends RST instead of FIN.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing() and sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


class Flow:
    """Both sides of one transport.

    `held` is not zero while there is any reason not to read. `due` is when the peer is too far
    behind in taking what is written, in monotonic seconds; `NEVER` while it is not waited for.
    """

    __slots__ = ("_transport", "_waiting", "due", "held")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._waiting = _UNKNOWN  # octets, when that was looked at last
        self.due = NEVER
        self.held = 0

    def __repr__(self) -> str:
        return f"<Flow held={self.held}>"

    def hold(self, why: int) -> None:
        """Stop reading for this reason too."""
        if not self.held and not self._transport.is_closing():
            self._transport.pause_reading()
        self.held |= why

    def release(self, why: int) -> None:
        """This reason is gone; read on when it was the last one."""
        if self.held & why:
            self.held &= ~why
            if not self.held and not self._transport.is_closing():
                self._transport.resume_reading()

    def unread(self) -> int:
        """Octets that have come to an open transport, and that the loop has not read yet."""
        return self._ask_kernel(FIONREAD)

    def _ask_kernel(self, what: int) -> int:
        sock = self._transport.get_extra_info("socket")
        if sock is None:
            return 0
        (octets,) = _COUNT.unpack(ioctl(sock.fileno(), what, bytes(_COUNT.size)))
        return int(octets)

    # Writing

    def waiting(self) -> int:
        """Octets that were written and that the peer has not taken yet, of an open transport.

        Also those in the kernel: it says that there is room only once a third of its megabytes is
        free, and to a slow peer that is minutes without a sign in our own buffer.
        """
        return self._transport.get_write_buffer_size() + self._ask_kernel(TIOCOUTQ)

    def await_peer(self, now: float, grace: float) -> None:
        """From now on what waits must be taken; the peer may be `grace` seconds behind."""
        if self.due == NEVER:
            self.due = now + grace
            self._waiting = _UNKNOWN

    def on_room(self) -> None:
        """Little waits any more; of what is to be closed, all must be taken."""
        if not self._transport.is_closing():
            self.due = NEVER

    def look(self, now: float, grace: float, rate: float) -> float:
        """Give the peer time for what it took since the last look; when it is due now.

        That is a second for each `rate` octets, or all of `grace` again if `rate` is 0. Being ahead
        of the rate gains no more than `grace`.
        """
        if self.due != NEVER:
            before, self._waiting = self._waiting, self.waiting()
            if self._waiting < before:
                took = (before - self._waiting) / rate if rate else grace
                self.due = min(self.due + took, now + grace)
        return self.due
