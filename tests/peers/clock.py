"""A clock that the test advances by hand; sleepers wake in the order of their times."""

from __future__ import annotations

import asyncio
from typing import Final

START: Final = 1_750_000_000.0
_TURNS: Final = 50  # iterations of the loop: enough for anything without I/O to finish


class Clock:
    """Call it for the time in seconds, `sleep` on it, and `turn` it to advance it."""

    def __init__(self, now: float = START) -> None:
        self.now = now
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now

    def __repr__(self) -> str:
        return f"<Clock {self.now:.3f}, {len(self._sleepers)} asleep>"

    async def sleep(self, seconds: float) -> None:
        """Sleep until the clock has been advanced this far."""
        waking: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + max(0.0, seconds), waking))
        await waking

    def advance(self, seconds: float) -> None:
        """Advance the clock without letting any task run."""
        self.now += seconds

    async def turn(self, seconds: float = 0.0) -> None:
        """Advance from one sleeper's time to the next, and let each run until it needs I/O."""
        end = self.now + seconds
        await _rest()
        while self._sleepers and (first := min(due for due, _ in self._sleepers)) <= end:
            self.now = max(self.now, first)
            awake = [waking for due, waking in self._sleepers if due <= self.now]
            self._sleepers = [pair for pair in self._sleepers if pair[1] not in awake]
            for waking in awake:
                if not waking.done():
                    waking.set_result(None)
            await _rest()
        self.now = end


async def _rest() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)
