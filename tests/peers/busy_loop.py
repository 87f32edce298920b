"""An event loop that another task keeps busy: each of its turns takes a while."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def busy_loop(seconds: float) -> Iterator[None]:
    """Block the running loop for this long in each of its turns."""
    loop = asyncio.get_running_loop()
    busy = True

    def block() -> None:
        if busy:
            time.sleep(seconds)
            loop.call_soon(block)

    loop.call_soon(block)
    try:
        yield
    finally:
        busy = False
