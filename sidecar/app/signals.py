"""The signals: the first that ends the process asks it to leave in order, the second at once."""

from __future__ import annotations

import asyncio
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """What was asked for so far: `leave`, then `now`; `typed` when it began with Ctrl-C.

    `reload` is set by SIGHUP, as often as it comes.
    """

    def __init__(self) -> None:
        self.leave = asyncio.Event()
        self.now = asyncio.Event()
        self.reload = asyncio.Event()
        self.typed = False

    def __repr__(self) -> str:
        word = "now" if self.now.is_set() else "leave" if self.leave.is_set() else "none"
        return f"<Signals {word}>"

    @contextmanager
    def heard(self, *, hangup: bool = False) -> Iterator[None]:
        """Listen to SIGTERM and SIGINT on the running loop while this lasts; to SIGHUP if told."""
        loop = asyncio.get_running_loop()
        if hangup:
            loop.add_signal_handler(signal.SIGHUP, self.reload.set)
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            yield
        finally:
            for number in (*_SIGNALS, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def _on_signal(self, number: signal.Signals) -> None:
        if self.leave.is_set():
            self.now.set()
            return
        self.typed = number is signal.SIGINT
        self.leave.set()
