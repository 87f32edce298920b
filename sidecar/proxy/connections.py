"""The client connections of one listener. Owns the set, and the knowledge that it is empty."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.proxy.client_base import ClientConnection


class ConnectionSet:
    """The connections of one listener; `empty` is set while there is none.

    `arriving` are those that have not agreed on TLS yet. `closing`: no more come, and each ends
    with what it is busy with.
    """

    __slots__ = ("arriving", "closing", "empty", "open")

    def __init__(self) -> None:
        self.closing = False
        self.arriving: set[asyncio.Task[None]] = set()
        self.open: set[ClientConnection] = set()
        self.empty = asyncio.Event()
        self.empty.set()

    def expect(self, arrival: asyncio.Task[None]) -> None:
        """One that becomes a connection before its task ends, or none."""
        self.arriving.add(arrival)
        self.empty.clear()
        arrival.add_done_callback(self._arrived)

    def add(self, connection: ClientConnection) -> None:
        """One more."""
        self.open.add(connection)
        self.empty.clear()

    def remove(self, connection: ClientConnection) -> None:
        """One less."""
        self.open.discard(connection)
        self._look()

    def _arrived(self, arrival: asyncio.Task[None]) -> None:
        self.arriving.discard(arrival)
        self._look()

    def _look(self) -> None:
        if not self.open and not self.arriving:
            self.empty.set()
