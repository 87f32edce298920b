"""Requests that wait while the keys of their token's issuer are fetched.

Owns how many may wait at once. How long they wait, and how often keys are fetched, is decided where
the keys are fetched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Places(Protocol):
    """Places to wait in, divided among callers."""

    def take(self, caller: str, /) -> bool:
        """Give the caller a place. False if it has as many as it may have."""

    def give_back(self, caller: str, /) -> None:
        """Take back a place that the caller has."""


class KeyWaiters:
    """`request` asks for an issuer's keys to be fetched; it is `JwksFetcher.request`."""

    __slots__ = ("_places", "request")

    def __init__(self, request: Callable[[str], asyncio.Event | None], places: Places) -> None:
        self._places = places
        self.request = request

    def __repr__(self) -> str:
        return f"<KeyWaiters in {self._places!r}>"

    async def wait(self, fetched: asyncio.Event, caller: str) -> None:
        """Wait for what `request` returned, if there is a place for this caller."""
        if not self._places.take(caller):
            return
        try:
            await fetched.wait()
        finally:
            self._places.give_back(caller)
