"""Slows down logins of a user who is being guessed from many addresses, without locking anyone out.

Each login waits a fixed time in one of a few places per user. If all are taken, the address with
the most attempts leaves, so an address that has not failed yet is ahead of all that have. Knows
users only as opaque keys.
"""

from __future__ import annotations

import asyncio
from typing import Final

PAUSE: Final = 2.0  # seconds that each login waits
PLACES: Final = 4  # per user; places / pause is the rate of checks of one user in this process
TOTAL: Final = 16  # for all users: each holds a connection to the control plane


class _Waiting:
    """A login in a place; `attempts` are those that its address has made recently."""

    __slots__ = ("attempts", "left", "user")

    def __init__(self, user: bytes, attempts: float) -> None:
        self.user = user
        self.attempts = attempts
        self.left = asyncio.Event()

    def __repr__(self) -> str:
        return f"<_Waiting after {self.attempts:.1f} attempts>"


class SlowLane:
    """Lets logins pass after `pause` seconds, a few at a time."""

    __slots__ = ("_pause", "_places", "_total", "_waiting")

    def __init__(self, *, pause: float = PAUSE, places: int = PLACES, total: int = TOTAL) -> None:
        self._pause = pause
        self._places = places
        self._total = total
        self._waiting: list[_Waiting] = []

    def __repr__(self) -> str:
        return f"<SlowLane {len(self._waiting)} of {self._total}>"

    async def wait(self, user: bytes, attempts: float) -> bool:
        """Wait. False if there is no place, or another address took this one."""
        rivals = [each for each in self._waiting if each.user == user]
        if len(rivals) < self._places:
            rivals = self._waiting if len(self._waiting) >= self._total else []
        if rivals:
            last = max(rivals, key=_attempts)
            if last.attempts <= attempts:
                return False
            self._waiting.remove(last)
            last.left.set()
        own = _Waiting(user, attempts)
        self._waiting.append(own)
        try:
            async with asyncio.timeout(self._pause):
                await own.left.wait()
        except TimeoutError:
            return True
        finally:
            if own in self._waiting:
                self._waiting.remove(own)
        return False


def _attempts(waiting: _Waiting) -> float:
    return waiting.attempts
