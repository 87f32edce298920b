"""What the pods of one process counted, and what all of them counted together.

Must not know Redis. Times are those of the monotonic clock, which all processes share.
"""

from __future__ import annotations

import math
import time
from collections import Counter

import msgspec

SLOT_SECONDS = 0.1
DEADLINE = 0.1  # seconds; the default of REDIS_TIMEOUT
SILENCE = 0.75  # seconds after which a sidecar gives up a connection that does not answer


class Tally(msgspec.Struct, kw_only=True):
    """The counts of one process.

    `hits` were answered by a near cache, `reads` are keys read from Redis, `untracked` those read
    without tracking, `local` are requests while Redis was out of use. `late` counts requests whose
    look-up took longer than `DEADLINE`, and `silent` pings that took longer than `SILENCE`. `slots`
    has the reads by tenths of a second. `ready` is when each epoch began, `slowest` is in seconds.
    """

    hits: int = 0
    reads: int = 0
    untracked: int = 0
    local: int = 0
    late: int = 0
    silent: int = 0
    seen: int = 0
    invalidated: int = 0
    lost: int = 0
    refused: int = 0
    slowest: float = 0.0
    ready: list[float] = []
    slots: dict[int, int] = {}

    def count_reads(self, number: int, began: float) -> None:
        """Count keys read by one look-up that began then and ends now."""
        now = time.monotonic()
        self.reads += number
        slot = int(now / SLOT_SECONDS)
        self.slots[slot] = self.slots.get(slot, 0) + number
        took = now - began
        self.slowest = max(self.slowest, took)
        if took > DEADLINE:
            self.late += number


def joined(tallies: list[Tally]) -> Tally:
    """The sum of what several processes counted."""
    slots: Counter[int] = Counter()
    for each in tallies:
        slots.update(each.slots)
    return Tally(
        **{
            name: sum(getattr(each, name) for each in tallies)
            for name in Tally.__struct_fields__
            if name not in {"slowest", "ready", "slots"}
        },
        slowest=max((each.slowest for each in tallies), default=0.0),
        ready=sorted(moment for each in tallies for moment in each.ready),
        slots=dict(sorted(slots.items())),
    )


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed; 0 without values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0
