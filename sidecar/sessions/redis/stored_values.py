"""Signs what is written to Redis and verifies what is read; counts and reports what is invalid.

Does no I/O with Redis and does not know what values mean.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from sidecar.auth.session import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.auth.value_mac import Purpose, ValueMac
    from sidecar.sessions.store import LookupMetrics

_BAD_MAC: Final = ("redis", "bad_mac")
_LOG_EVERY: Final = 60.0  # seconds between two log lines of one purpose

logger = logging.getLogger("sidecar.sessions")


class StoredValues:
    """The values in one Redis. `clock` returns seconds since the epoch."""

    __slots__ = ("_clock", "_logged", "_lookups", "_mac", "realm")

    def __init__(self, mac: ValueMac, metrics: LookupMetrics, clock: Callable[[], float]) -> None:
        self._mac = mac
        self._lookups = metrics.lookups
        self._lookups.setdefault(_BAD_MAC, 0)  # a counter that first appears with 1 has no increase
        self._clock = clock
        self._logged: dict[Purpose, float] = {}  # time of the last log line
        self.realm = mac.realm

    def __repr__(self) -> str:
        return f"<StoredValues by {self._mac!r}>"

    def sign(self, purpose: Purpose, key: bytes, value: bytes) -> bytes:
        """The value as it is stored under this key."""
        return self._mac.sign(purpose, key, value)

    def verify(self, purpose: Purpose, key: bytes, stored: bytes | None) -> bytes | None:
        """The value that was signed for this purpose and key.

        None without a valid MAC, which is counted and logged, and if nothing is stored.
        """
        if stored is None:
            return None
        value = self._mac.verify(purpose, key, stored)
        if value is None:
            self.reject(purpose, Unreadable.BAD_MAC)
        return value

    def reject(self, purpose: Purpose, why: Unreadable) -> None:
        """Count a value that is not used; log one without a valid MAC, at most once a minute."""
        if why is not Unreadable.BAD_MAC:
            self.count(1, "unreadable")
            return
        self._lookups[_BAD_MAC] += 1
        now = self._clock()
        # A line in the future does not count: the clock was set back.
        if not 0.0 <= now - self._logged.get(purpose, -_LOG_EVERY) < _LOG_EVERY:
            self._logged[purpose] = now
            logger.warning(
                "a value in Redis has no valid MAC and is not used", extra={"kind": purpose.value}
            )

    def count(self, number: int, result: str) -> None:
        """Count look-ups with this result."""
        if number:
            key = ("redis", result)
            self._lookups[key] = self._lookups.get(key, 0) + number
