"""The circuit breaker: whether requests may use a collaborator, and when to see if it is back.

Pure: `now` is given in seconds of any monotonic clock, `jitter` as a number in [0, 1). It decides;
its owner asks, tells it how things went, and probes when told to. Requests are never probes.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Closed: in use. Open: not in use. Half-open: one probe is under way."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """Opens after `threshold` failures in a row; probes at intervals doubling up to `longest`."""

    __slots__ = ("_failures", "_interval", "_longest", "_shortest", "_threshold", "due", "state")

    def __init__(
        self, *, threshold: int = 3, interval: float = 0.25, longest: float = 0.75
    ) -> None:
        self.state = State.CLOSED
        self.due = 0.0  # when the next probe is due; of meaning while open
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
        """A request went well. Says nothing once the breaker is open: it began before."""
        if self.state is State.CLOSED:
            self._failures = 0

    def failed(self, now: float, jitter: float, *, certain: bool = False) -> bool:
        """A request failed; whether that opened the breaker. A `certain` failure does at once."""
        if self.state is not State.CLOSED:
            return False
        self._failures += 1
        if not certain and self._failures < self._threshold:
            return False
        self._interval = self._shortest
        self._open(now, jitter)
        return True

    def probe(self, now: float) -> bool:
        """Whether the caller shall probe now. True only once until the probe's outcome is told."""
        if self.state is not State.OPEN or now < self.due:
            return False
        self.state = State.HALF_OPEN
        return True

    def probed(self, now: float, jitter: float, *, well: bool) -> None:
        """How the probe went: closes the breaker, or opens it again for twice as long."""
        if self.state is not State.HALF_OPEN:
            raise RuntimeError(f"no probe is under way: breaker is {self.state}")
        if well:
            self.state = State.CLOSED
            self._failures = 0
            return
        self._interval = min(self._interval * 2, self._longest)
        self._open(now, jitter)

    def _open(self, now: float, jitter: float) -> None:
        # Between half and all of the interval, so that a fleet does not probe in step.
        self.state = State.OPEN
        self.due = now + self._interval * (1 + jitter) / 2
