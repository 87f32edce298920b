"""Tunes the garbage collector so that it does not walk over all sessions again and again.

A hundred thousand sessions are several hundred thousand objects, and a full collection would hold
all requests for 100 to 260 ms (measured). Reference counting frees almost everything; the collector
only finds cycles. So each full collection looks at the objects made since the previous one and
freezes the survivors. Once the frozen objects have doubled, one collection looks at all of them.
"""

from __future__ import annotations

import gc
from typing import Final, Literal

# Net allocations before a collection of generation 0, and collections of each generation before one
# of the next: a full collection after 20,000 objects takes about 4 ms.
_THRESHOLDS: Final = (1000, 5, 4)
_STEP: Final = 20_000
_FULL: Final = 2  # the oldest generation
_SLACK: Final = 250_000  # objects beyond the doubling


class GcTuner:
    """Call `install` once everything long-lived has been made; `remove` undoes it."""

    __slots__ = ("_before", "_complete", "_slack", "_steps")

    def __init__(self, slack: int = _SLACK) -> None:
        self._before = gc.get_threshold()
        self._complete = False  # the running collection looks at everything
        self._slack = slack
        self._steps = 0  # full collections left before one looks at everything

    def __repr__(self) -> str:
        return f"<GcTuner, complete collection in {self._steps} steps>"

    def install(self) -> None:
        """Collect everything once, then only in steps."""
        gc.collect()
        self._freeze()
        gc.set_threshold(*_THRESHOLDS)
        gc.callbacks.append(self._on_collection)

    def remove(self) -> None:
        """Restore the thresholds and unfreeze all objects."""
        gc.callbacks.remove(self._on_collection)
        gc.set_threshold(*self._before)
        gc.unfreeze()

    def _on_collection(self, phase: Literal["start", "stop"], info: dict[str, int]) -> None:
        if info["generation"] != _FULL:
            return
        if phase == "start":
            self._complete = self._steps <= 0
            if self._complete:
                gc.unfreeze()  # moves the objects to the generation that is about to be collected
        elif self._complete:
            self._freeze()
        else:
            self._steps -= 1
            gc.freeze()

    def _freeze(self) -> None:
        gc.freeze()
        # This counts steps because counting frozen objects walks over all of them.
        self._steps = (gc.get_freeze_count() + self._slack) // _STEP
