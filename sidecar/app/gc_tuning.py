"""Keeps the garbage collector from walking over everything that is kept, again and again.

A hundred thousand sessions are some hundred thousand objects, and a full collection would hold all
requests up while it walks over them (100 to 260 ms, measured). Reference counts free nearly all of
what goes; the collector is there for the cycles. So each full collection looks at what came since
the last one, and sets aside what survived it; all is looked at once what is set aside has doubled.
"""

from __future__ import annotations

import gc
from typing import Final, Literal

# Net allocations before a young collection, and how many of one kind come before the next: a full
# one after 20,000 objects takes about 4 ms.
_THRESHOLDS: Final = (1000, 5, 4)
_STEP: Final = 20_000
_FULL: Final = 2
_SLACK: Final = 250_000


class GcTuner:
    """`install` it once all that stays has been made; `remove` puts everything back."""

    __slots__ = ("_before", "_complete", "_slack", "_steps")

    def __init__(self, slack: int = _SLACK) -> None:
        self._before = gc.get_threshold()
        self._complete = False
        self._slack = slack
        self._steps = 0  # until all is looked at

    def __repr__(self) -> str:
        return f"<Collector, all is looked at in {self._steps} steps>"

    def install(self) -> None:
        """Collect everything once, and from here on in steps."""
        gc.collect()
        self._set_aside()
        gc.set_threshold(*_THRESHOLDS)
        gc.callbacks.append(self._on_collection)

    def remove(self) -> None:
        """As it was before."""
        gc.callbacks.remove(self._on_collection)
        gc.set_threshold(*self._before)
        gc.unfreeze()

    def _on_collection(self, phase: Literal["start", "stop"], info: dict[str, int]) -> None:
        if info["generation"] != _FULL:
            return
        if phase == "start":
            self._complete = self._steps <= 0
            if self._complete:
                gc.unfreeze()  # puts it where this very collection looks
        elif self._complete:
            self._set_aside()
        else:
            self._steps -= 1
            gc.freeze()

    def _set_aside(self) -> None:
        gc.freeze()
        # Steps are counted and not objects: counting these walks over all of them.
        self._steps = (gc.get_freeze_count() + self._slack) // _STEP
