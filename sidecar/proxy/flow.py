"""Flow control of one transport: why it is not read, and how fast its peer reads.

Owns the set of reasons to pause reading, the time by which the peer must have read more, and how a
connection is broken off so that the peer notices.
"""

from __future__ import annotations

import socket
import struct
from fcntl import ioctl
from termios import FIONREAD, TIOCOUTQ
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

# A transport with more octets than this in its write buffer asks for a pause. uvloop reads up to
# 256 KiB at once, so that a lower mark would pause on every read (measured with 1 MiB bodies: 30 %
# more CPU).
HIGH_WATER: Final = 256 * 1024


NEVER: Final = float("inf")
_NO_LINGER: Final = struct.pack("ii", 1, 0)
_COUNT: Final = struct.Struct("i")
_UNKNOWN: Final = -1

# Reasons to pause reading. Plain integers: an operation on enum flags costs 1 µs in Python 3.11.
PEER_FULL: Final = 1  # the side that the bytes are relayed to does not read
NO_PEER: Final = 2  # there is no side to relay the bytes to yet
BACKLOG: Final = 4  # too many pipelined requests wait for the current answer


def reset(transport: asyncio.Transport) -> None:
    """Break the connection off so that the peer sees an error.

    A plain close would look like the end of a body that only the end of the connection delimits.
    With a linger time of zero the kernel sends RST instead of FIN.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing() and sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


class Flow:
    """The flow control of both directions of one transport.

    `held` is non-zero while there is any reason not to read. `due` is when the peer will have
    fallen too far behind in reading, in monotonic seconds; `NEVER` while nothing waits for it.
    """

    __slots__ = ("_transport", "_waiting", "due", "held")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._waiting = _UNKNOWN  # octets at the last look
        self.due = NEVER
        self.held = 0

    def __repr__(self) -> str:
        return f"<Flow held={self.held}>"

    def hold(self, why: int) -> None:
        """Add a reason not to read, and stop reading."""
        if not self.held and not self._transport.is_closing():
            self._transport.pause_reading()
        self.held |= why

    def release(self, why: int) -> None:
        """Remove a reason not to read, and read again if it was the last one."""
        if self.held & why:
            self.held &= ~why
            if not self.held and not self._transport.is_closing():
                self._transport.resume_reading()

    def unread(self) -> int:
        """Octets that the kernel has received for an open transport and the loop has not read."""
        return self._ask_kernel(FIONREAD)

    def _ask_kernel(self, what: int) -> int:
        sock = self._transport.get_extra_info("socket")
        if sock is None:
            return 0
        (octets,) = _COUNT.unpack(ioctl(sock.fileno(), what, bytes(_COUNT.size)))
        return int(octets)

    # Writing

    def waiting(self) -> int:
        """Octets that were written to an open transport and that the peer has not acknowledged.

        This includes those in the kernel. The kernel reports room only once a third of its
        megabytes is free: with a slow peer our own buffer would not change for minutes.
        """
        return self._transport.get_write_buffer_size() + self._ask_kernel(TIOCOUTQ)

    def await_peer(self, now: float, grace: float) -> None:
        """From now on the peer must read what waits; it may be `grace` seconds behind."""
        if self.due == NEVER:
            self.due = now + grace
            self._waiting = _UNKNOWN

    def on_room(self) -> None:
        """The write buffer has room: stop the time limit, unless the transport is closing."""
        if not self._transport.is_closing():
            self.due = NEVER

    def look(self, now: float, grace: float, rate: float) -> float:
        """Extend `due` by what the peer has read since the last look, and return it.

        The peer gets one second for each `rate` octets, or all of `grace` again if `rate` is 0.
        Being ahead of the rate earns no more than `grace`.
        """
        if self.due != NEVER:
            before, self._waiting = self._waiting, self.waiting()
            if self._waiting < before:
                took = (before - self._waiting) / rate if rate else grace
                self.due = min(self.due + took, now + grace)
        return self.due
