"""What a run measures: one Redis with its sessions, simulated pods, and a real sidecar that writes.

Owns the size of a run. Must not measure.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.scale.fleet import Fleet, FleetError

if TYPE_CHECKING:
    from bench.lab import Lab
    from bench.scale.clients import Users
    from bench.scale.gauge import Gauge

PROCESSES = 2  # that simulate pods; more do not help where they share a CPU
PER_POD = 3  # connections, with one to spare
SPARE_FILES = 256
FULL_BATCH = 256  # sessions of the largest look-up that a pod sends
MOST_KEYS = "tracking-table-max-keys"


@dataclass(frozen=True, slots=True)
class Plan:
    """The size of a run: numbers of pods, sessions in Redis, and how long or often to measure.

    `items` is how many pairs of key and pod each point of the tracking table has, `pushes` how
    many invalidations the writes of one point cause, `changes` how many changes are delivered.
    Sessions live `expiry` seconds where their end is measured. `rate` is the number of requests per
    second to all pods together, for `serve` seconds; a failover is watched for `after` seconds.
    """

    pods: tuple[int, ...]
    sessions: int
    settle: float
    rest: float
    writes: int
    expiry: float
    pushes: int
    changes: int
    items: int
    table_sessions: int
    storm_reads: int
    rate: float
    serve: float
    after: int

    @property
    def most(self) -> int:
        """The largest number of pods."""
        return self.pods[-1]

    def table_keys(self, pods: int) -> int:
        """The number of keys of the point of the tracking table with so many pods."""
        if pods == 1:
            return self.sessions // 2
        return max(1, min(self.sessions // (3 * len(self.pods)), self.items // pods))

    def number_of_writes(self, pods: int) -> int:
        """How often each write is made whose key is tracked by so many pods."""
        return max(10, min(self.writes, self.pushes // max(1, pods)))


QUICK = Plan(
    pods=(2, 10, 40),
    sessions=20_000,
    settle=0.4,
    rest=0.7,
    writes=40,
    expiry=0.8,
    pushes=2_000,
    changes=10,
    items=40_000,
    table_sessions=400,
    storm_reads=50,
    rate=800.0,
    serve=1.0,
    after=2,
)
FULL = Plan(
    pods=(10, 30, 100, 300, 1_000),
    sessions=1_000_000,
    settle=4.0,
    rest=6.0,
    writes=300,
    expiry=5.0,
    pushes=60_000,
    changes=100,
    items=1_000_000,
    table_sessions=500,
    storm_reads=100,
    rate=3_000.0,
    serve=8.0,
    after=15,
)


class Subject:
    """What the measurements of one Redis share."""

    def __init__(self, lab: Lab, plan: Plan, gauge: Gauge, fleet: Fleet, users: Users) -> None:
        self.lab, self.plan, self.gauge, self.fleet, self.users = lab, plan, gauge, fleet, users
        # The first ones are requested again and again, so nothing may end them.
        self._used = max(plan.table_sessions, plan.storm_reads, FULL_BATCH)

    def __repr__(self) -> str:
        return f"<Subject {self.fleet!r}, {self._used:,} sessions used>"

    def take(self, number: int) -> tuple[int, int]:
        """Numbers of sessions that no measurement has used yet: first and end."""
        first, self._used = self._used, self._used + number
        if self._used > self.plan.sessions:
            raise FleetError(f"more than {self.plan.sessions:,} sessions are needed")
        return first, self._used


def server_options(plan: Plan) -> tuple[str, ...]:
    """The arguments of a Redis that takes the connections of all pods. Raises FleetError."""
    need = plan.most * PER_POD + SPARE_FILES
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < need:
        raise FleetError(f"{need:,} open files are needed, but only {hard:,} are allowed")
    return "--maxclients", str(need), f"--{MOST_KEYS}", "0"
