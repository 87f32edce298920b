"""The gauge on a Redis: its CPU clock and some of its own figures.

Must not know what is sent to it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redis import Redis

from bench import usage

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

SAMPLE_SECONDS = 0.1
DRAIN_SECONDS = 0.05  # Redis sends what it has to push before its next sleep


@dataclass(frozen=True, slots=True)
class Reading:
    """A moment of a Redis: seconds of the monotonic clock and of CPU, and figures of INFO."""

    at: float
    cpu: float
    commands: int
    memory: int
    clients: int
    expired: int
    tracked_keys: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A stretch between two readings: commands per second, and the share of a core used."""

    commands: float
    busy: float


class Gauge:
    """Reads one Redis, and keeps samples of it on demand."""

    def __init__(self, port: int, pid: int) -> None:
        self._pid = pid
        self.redis = Redis(port=port, socket_timeout=30)

    def __repr__(self) -> str:
        return f"<Gauge of {self._pid}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.redis.close()

    def set(self, name: str, value: int | str) -> None:
        """Set a directive of its configuration."""
        self.redis.config_set(name, value)

    def cpu(self) -> float:
        """Seconds of CPU that it has used."""
        return usage.usage([self._pid]).nanoseconds / 1e9

    def read(self) -> Reading:
        """The present figures. Raises redis.RedisError."""
        found = self.redis.info()
        return Reading(
            at=time.monotonic(),
            cpu=self.cpu(),
            commands=found["total_commands_processed"],
            memory=found["used_memory"],
            clients=found["connected_clients"],
            expired=found["expired_keys"],
            tracked_keys=found["tracking_total_keys"],
        )

    def share(self, seconds: float) -> float:
        """The share of a core that it uses during the next `seconds`."""
        cpu, began = self.cpu(), time.monotonic()
        time.sleep(seconds)
        return (self.cpu() - cpu) / (time.monotonic() - began)

    def samples(self, seconds: float) -> list[Sample]:
        """Watch it for `seconds`."""
        end = time.monotonic() + seconds
        last, found = self.read(), []
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, SAMPLE_SECONDS))
            now = self.read()
            took = now.at - last.at
            found.append(Sample((now.commands - last.commands) / took, (now.cpu - last.cpu) / took))
            last = now
        return found


class Price:
    """The CPU that a block of operations costs beyond what the pods use at rest anyway.

    `idle` is their share of a core. The block ends when Redis has sent what it had to push.
    """

    def __init__(self, gauge: Gauge, idle: float) -> None:
        self._gauge = gauge
        self._idle = idle
        self.seconds = 0.0

    def __repr__(self) -> str:
        return f"<Price {self.seconds:.6f} s>"

    def __enter__(self) -> Self:
        self._began, self._cpu = time.monotonic(), self._gauge.cpu()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        time.sleep(DRAIN_SECONDS)
        used, took = self._gauge.cpu() - self._cpu, time.monotonic() - self._began
        self.seconds = max(0.0, used - self._idle * took)

    def each(self, number: int) -> float:
        """Microseconds of one of `number` operations."""
        return self.seconds * 1e6 / number
