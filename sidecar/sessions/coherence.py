"""Whether answers that Redis gave can still be relied on. Pure; knows no connections or caches.

During a `TrackingEpoch` Redis reports every change, so an answer that was read in an epoch stays
certain while the epoch lasts. A `PendingLookup` records what was invalidated between the question
and its answer.
"""

from __future__ import annotations


class TrackingEpoch:
    """A period during which the server reports every change to the keys that were read.

    `ended` is when it ended, in monotonic seconds; None while it lasts.
    """

    __slots__ = ("ended",)

    def __init__(self, ended: float | None = None) -> None:
        self.ended = ended

    def __repr__(self) -> str:
        return f"<TrackingEpoch {'current' if self.ended is None else 'ended'}>"


class PendingLookup:
    """A look-up whose answer has not arrived.

    `changed` collects the token ids and revocation names that are invalidated while it is pending,
    or whose changes are not reported. The answer may be older than those changes, so it is not
    certain for them. `ended` collects
    the token ids that were ended here without a trace, because no store knew them any longer.
    """

    __slots__ = ("changed", "ended", "epoch")

    def __init__(self, epoch: TrackingEpoch) -> None:
        self.epoch = epoch
        self.changed: set[str] = set()
        self.ended: set[str] = set()

    def __repr__(self) -> str:
        return f"<PendingLookup in {self.epoch!r}, {len(self.changed)} changed>"


def ignore_change(_: str | None) -> None:
    """The change listener that a store has until one is set."""
