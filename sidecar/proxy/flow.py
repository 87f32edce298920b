"""Back-pressure: reading from a transport is held while anybody has a reason to hold it.

Owns the set of reasons of one transport, and how one is broken off visibly.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

# A transport that has this much waiting to be written asks for a pause, in octets. uvloop reads up
# to 256 KiB at once, so a lower mark would pause on every read (measured on 1 MiB bodies: 30 % more
# CPU).
HIGH_WATER: Final = 256 * 1024


_NO_LINGER: Final = struct.pack("ii", 1, 0)


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
    """The reading side of one transport; `held` is not zero while there is any reason."""

    __slots__ = ("_transport", "held")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
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
