"""Whether what this process remembers of Redis can still be relied on.

Invalidations arrive during a `TrackingEpoch`: an answer that was read during an epoch is certain
for as long as that epoch lasts. A `PendingLookup` records what was invalidated between the question
and its answer. Pure; it knows neither connections nor caches.
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
    """A look-up whose answer has not arrived yet.

    `changed` collects the token ids and revocation names that are invalidated meanwhile: the answer
    may be older than those changes and must not be cached for them.
    """

    __slots__ = ("changed", "epoch")

    def __init__(self, epoch: TrackingEpoch) -> None:
        self.epoch = epoch
        self.changed: set[str] = set()

    def __repr__(self) -> str:
        return f"<PendingLookup in {self.epoch!r}, {len(self.changed)} changed>"


def ignore_change(_: str | None) -> None:
    """The change listener of a store that nobody observes."""
