"""The process's signals: a first SIGTERM or SIGINT starts draining, a second one cuts it short."""

from __future__ import annotations

import asyncio
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """What the signals received so far ask for.

    The first SIGTERM or SIGINT sets `stop`, the second `hurry`. `interactive` is True if the first
    was SIGINT (Ctrl-C). Every SIGHUP sets `reload`.
    """

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self.reload = asyncio.Event()
        self.interactive = False

    def __repr__(self) -> str:
        word = "hurry" if self.hurry.is_set() else "stop" if self.stop.is_set() else "none"
        return f"<Signals {word}>"

    @contextmanager
    def handled(self, *, hangup: bool = False) -> Iterator[None]:
        """Handle SIGTERM and SIGINT on the running loop inside; with `hangup`, SIGHUP as well."""
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
        if self.stop.is_set():
            self.hurry.set()
            return
        self.interactive = number is signal.SIGINT
        self.stop.set()
