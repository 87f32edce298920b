"""Waiting for what another task or process does: with a limit, and without fixed sleeps."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PATIENCE: Final = 5.0  # seconds; nothing in these tests takes as long
TURN: Final = 0.005  # seconds between two looks


async def until(condition: Callable[[], bool | Awaitable[bool]], limit: float = PATIENCE) -> None:
    """Look again and again until it is true. Raises TimeoutError after `limit` seconds."""
    end = time.monotonic() + limit
    while not await _value(condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"not so after {limit} s")
        await asyncio.sleep(TURN)


async def _value(found: bool | Awaitable[bool]) -> bool:  # noqa: FBT001 (it is what is looked at)
    return await found if inspect.isawaitable(found) else found
