"""Bounds the work of listing logins: one listing at a time, so it never crowds out look-ups.

Knows no sessions.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from aiohttp import web

from sidecar.api.problems import unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TOO_MANY: Final = "Too many lists of sessions are being read now."


class ListingQueue:
    """Lets listings run one at a time, in order of arrival.

    At most `waiting` listings run or wait. A user may have no more of them than are left for all
    others: one user half of them, and two a third each.
    """

    __slots__ = ("_of_user", "_running", "_waiting")

    def __init__(self, *, waiting: int = 64) -> None:
        self._waiting = waiting
        self._of_user: Counter[str] = Counter()
        self._running = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<ListingQueue {self._of_user.total()} of {self._waiting}>"

    @asynccontextmanager
    async def turn(self, sub: str) -> AsyncIterator[None]:
        """Wait for this user's turn. Raises Refusal (503) if too many are waiting."""
        of_user = self._of_user
        if of_user[sub] >= self._waiting - of_user.total():
            raise unavailable(TOO_MANY)
        of_user[sub] += 1
        try:
            async with self._running:
                yield
        finally:
            of_user[sub] -= 1
            if not of_user[sub]:
                del of_user[sub]


LISTING_QUEUE: Final[web.AppKey[ListingQueue]] = web.AppKey("listing_queue")
