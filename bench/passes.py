"""A pass: many tokens, each used once in order, and the cost for the proxy and for Redis.

Owns the accounting of bursts with a fixed number of requests. Must not know what is compared.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import counters, load, usage
from bench.children import PATIENCE
from bench.scenarios import SMALL

if TYPE_CHECKING:
    from bench.lab import Lab

LONGEST_SECONDS = 600  # a pass ends with its last token; a slow machine needs longer
QUIET_SECONDS = 0.1
QUIET_NS = 4_000_000  # of CPU in that time; an idle process uses less


@dataclass(frozen=True, slots=True)
class Pass:
    """The cost of `requests`: µs of CPU per request in the proxy and in Redis, Redis's counters."""

    requests: int
    errors: int
    cpu: float
    redis: float
    asked: counters.Counters | None

    @property
    def keys(self) -> float:
        """Keys read from Redis per request."""
        return 0.0 if self.asked is None else self.asked.keys / self.requests


@dataclass(frozen=True, slots=True)
class Meter:
    """Sends load to one proxy; Redis is measured as well if there is one and `asks` is set."""

    lab: Lab
    pids: list[int]
    port: int
    connections: int = SMALL.connections
    asks: bool = False
    denied: bool = False

    def run(self, rotation: load.Rotation) -> Pass:
        """Send small GETs with these tokens. Raises LoadError if some get no response in time."""
        redis = [self.lab.redis.pid] if self.lab.redis and self.asks else []
        asked = counters.read(self.lab.redis_port) if redis else None
        redis_before, before = usage.usage(redis), usage.usage(self.pids)
        done = load.run(
            load.Burst(
                port=self.port,
                path=SMALL.path,
                method=SMALL.method,
                headers=(),
                body_size=0,
                connections=self.connections,
                seconds=LONGEST_SECONDS,
                rotation=rotation,
            ),
            cpu=self.lab.client_cpu,
        )
        cpu, redis_cpu = usage.usage(self.pids) - before, usage.usage(redis) - redis_before
        return Pass(
            done.requests,
            done.errors(denied=self.denied),
            cpu.nanoseconds / 1e3 / done.requests,
            redis_cpu.nanoseconds / 1e3 / done.requests,
            None if asked is None else counters.read(self.lab.redis_port) - asked,
        )

    def settle(self) -> None:
        """Return when the proxy is idle, but after `PATIENCE` at the latest."""
        deadline = time.monotonic() + PATIENCE
        busy = True
        while busy and time.monotonic() < deadline:
            before = usage.usage(self.pids)
            time.sleep(QUIET_SECONDS)
            busy = (usage.usage(self.pids) - before).nanoseconds > QUIET_NS
