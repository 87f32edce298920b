"""The signals that end the process: the first asks it to leave in order, the second at once."""

from __future__ import annotations

import asyncio
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """What was asked for so far: `leave`, then `now`; `typed` when it began with Ctrl-C."""

    def __init__(self) -> None:
        self.leave = asyncio.Event()
        self.now = asyncio.Event()
        self.typed = False

    def __repr__(self) -> str:
        word = "now" if self.now.is_set() else "leave" if self.leave.is_set() else "none"
        return f"<Signals {word}>"

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Listen to SIGTERM and SIGINT on the running loop while this lasts."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    def _on_signal(self, number: signal.Signals) -> None:
        if self.leave.is_set():
            self.now.set()
            return
        self.typed = number is signal.SIGINT
        self.leave.set()
