"""Waiting, with a limit and without fixed sleeps, for what another task or process does."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

# Seconds: longer than anything in these tests takes on a busy machine, and shorter than the sidecar
# waits for the rest of a request, so that its 408 does not pass for the answer.
PATIENCE: Final = 9.0
TURN: Final = 0.005  # seconds between two checks


async def until(condition: Callable[[], bool | Awaitable[bool]], limit: float = PATIENCE) -> None:
    """Check the condition repeatedly until it is true. TimeoutError after `limit` seconds."""
    end = time.monotonic() + limit
    while not await _value(condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"condition still false after {limit} s")
        await asyncio.sleep(TURN)


async def _value(found: bool | Awaitable[bool]) -> bool:  # noqa: FBT001 (the checked value itself)
    return await found if inspect.isawaitable(found) else found
