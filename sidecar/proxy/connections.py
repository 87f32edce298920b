"""The client connections of one listener: which are open, and when the last one has closed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.proxy.contracts import OpenConnection


class ConnectionSet:
    """The connections of one listener; the event `empty` is set while there are none.

    `arriving` holds the tasks of TLS handshakes. Once `closing` is set, no more connections come,
    and each open one closes after its current answer.
    """

    __slots__ = ("arriving", "closing", "empty", "open")

    def __init__(self) -> None:
        self.closing = False
        self.arriving: set[asyncio.Task[None]] = set()
        self.open: dict[OpenConnection, None] = {}  # the oldest first
        self.empty = asyncio.Event()
        self.empty.set()

    def __repr__(self) -> str:
        return f"<ConnectionSet {len(self.open)} open, {len(self.arriving)} arriving>"

    def expect(self, handshake: asyncio.Task[None]) -> None:
        """Count a handshake, which adds a connection before its task ends or fails."""
        self.arriving.add(handshake)
        self.empty.clear()
        handshake.add_done_callback(self._on_handshake_done)

    def add(self, connection: OpenConnection) -> None:
        """Count a connection that has opened."""
        self.open[connection] = None
        self.empty.clear()

    def remove(self, connection: OpenConnection) -> None:
        """Forget a connection that has closed."""
        self.open.pop(connection, None)
        self._set_empty()

    def make_room(self, newcomer: OpenConnection) -> bool:
        """Cut the oldest connection that waits for its client; False if all are being served.

        A flood can then keep no other client out: a client that asks at once is served before its
        connection is the oldest.
        """
        for each in self.open:
            if each is not newcomer and each.waits_for_client():
                each.cut()
                return True
        return False

    def _on_handshake_done(self, handshake: asyncio.Task[None]) -> None:
        self.arriving.discard(handshake)
        self._set_empty()

    def _set_empty(self) -> None:
        if not self.open and not self.arriving:
            self.empty.set()
