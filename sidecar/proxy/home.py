"""The client connections of one listener. Owns the set, and the knowledge that it is empty."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.proxy.client import Client


class Home:
    """The connections of one listener; `empty` is set while there is none.

    `closing`: no more come, and each ends with what it is busy with.
    """

    __slots__ = ("closing", "connections", "empty")

    def __init__(self) -> None:
        self.closing = False
        self.connections: set[Client] = set()
        self.empty = asyncio.Event()
        self.empty.set()

    def add(self, connection: Client) -> None:
        """One more."""
        self.connections.add(connection)
        self.empty.clear()

    def remove(self, connection: Client) -> None:
        """One less."""
        self.connections.discard(connection)
        if not self.connections:
            self.empty.set()
