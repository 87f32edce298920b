"""The circuit breaker: whether requests may use a collaborator, and when to probe it.

Pure: takes `now` in seconds of any monotonic clock, and `jitter` as a number in [0, 1). The owner
reports outcomes and sends the probes. A request is never a probe.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Closed: requests go through. Open: they do not. Half-open: one probe is under way."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """Opens after `threshold` consecutive failures.

    Probes follow at intervals, in seconds, that double from `interval` up to `longest`.
    """

    __slots__ = ("_failures", "_interval", "_longest", "_shortest", "_threshold", "due", "state")

    def __init__(
        self, *, threshold: int = 3, interval: float = 0.25, longest: float = 0.75
    ) -> None:
        self.state = State.CLOSED
        self.due = 0.0  # when the next probe is due; meaningful only while open
        self._threshold = threshold
        self._shortest = interval
        self._longest = longest
        self._interval = interval
        self._failures = 0

    def __repr__(self) -> str:
        return f"<Breaker {self.state}, {self._failures} failures, next probe {self.due:.3f}>"

    @property
    def closed(self) -> bool:
        """Whether requests may go through."""
        return self.state is State.CLOSED

    def succeeded(self) -> None:
        """A request succeeded. Ignored unless closed: such a request began before it opened."""
        if self.state is State.CLOSED:
            self._failures = 0

    def failed(self, now: float, jitter: float, *, certain: bool = False) -> bool:
        """A request failed. True if that opened the breaker; one `certain` failure suffices."""
        if self.state is not State.CLOSED:
            return False
        self._failures += 1
        if not certain and self._failures < self._threshold:
            return False
        self._interval = self._shortest
        self._open(now, jitter)
        return True

    def probe(self, now: float) -> bool:
        """Whether the caller must probe now. True only once until `probed` reports the outcome."""
        if self.state is not State.OPEN or now < self.due:
            return False
        self.state = State.HALF_OPEN
        return True

    def probed(self, now: float, jitter: float, *, well: bool) -> None:
        """The probe's outcome closes the breaker, or opens it for twice as long.

        Raises RuntimeError if no probe is under way.
        """
        if self.state is not State.HALF_OPEN:
            raise RuntimeError(f"no probe is under way: breaker is {self.state}")
        if well:
            self.state = State.CLOSED
            self._failures = 0
            return
        self._interval = min(self._interval * 2, self._longest)
        self._open(now, jitter)

    def _open(self, now: float, jitter: float) -> None:
        # Between half and all of the interval, so that the pods of a fleet do not probe at once.
        self.state = State.OPEN
        self.due = now + self._interval * (1 + jitter) / 2
