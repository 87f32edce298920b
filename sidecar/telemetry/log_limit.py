"""Bounds how many log lines others can cause. Knows neither what is logged nor who causes it."""

from __future__ import annotations

from typing import Final

INTERVAL: Final = 60.0  # seconds
LINES: Final = 8  # of one topic in an interval


class LogLimit:
    """Admits one line of a topic for each cause, and `LINES` altogether, in every `INTERVAL`.

    Topics come from enums or from the configuration; causes, such as addresses, from anywhere.
    """

    __slots__ = ("_topics",)

    def __init__(self) -> None:
        self._topics: dict[str, _Window] = {}

    def __repr__(self) -> str:
        return f"<LogLimit of {len(self._topics)} topics>"

    def admit(self, topic: str, cause: str, now: float) -> int | None:
        """None if the caller must leave the line out, else how many were left out before it.

        `now` is in monotonic seconds.
        """
        window = self._topics.get(topic)
        if window is None:
            window = self._topics[topic] = _Window(now)
        elif now - window.began >= INTERVAL:
            window.began = now
            window.causes.clear()
        if cause in window.causes or len(window.causes) >= LINES:
            window.left_out += 1
            return None
        window.causes.add(cause)
        left_out, window.left_out = window.left_out, 0
        return left_out


class _Window:
    """The lines of one topic in the current interval."""

    __slots__ = ("began", "causes", "left_out")

    def __init__(self, began: float) -> None:
        self.began = began
        self.causes: set[str] = set()
        self.left_out = 0
