"""What look-ups and the tracking table cost, and what happens when the table is full.

Must not fit or show anything.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench import seeding
from bench.scale.fleet import FleetError
from bench.scale.gauge import Price
from bench.scale.points import Lookup, Overflow, Stored, Table
from bench.scale.population import logins
from bench.scale.subject import FULL_BATCH, MOST_KEYS

if TYPE_CHECKING:
    from bench.scale.gauge import Gauge
    from bench.scale.subject import Plan, Subject
    from sidecar.auth.value_mac import ValueMac

LOOKUP_PODS = 40
BATCHES = (1, 16, FULL_BATCH)
COMMANDS = 4_000  # of a kind of look-up, but at least one for each pod
SHARES = (2.0, 1.0, 0.5, 0.25)  # of the sessions in use, as the limit of the table
EMPTY_SECONDS = 60.0
SEED_STEPS = (0.1, 1.0)


def fill(gauge: Gauge, port: int, plan: Plan, mac: ValueMac) -> list[Stored]:
    """Write all sessions to Redis, and measure the memory that they take."""
    before, done, found = gauge.read().memory, 0, []
    for share in SEED_STEPS:
        number = int(share * plan.sessions)
        seeding.insert(port, logins(done, number, mac))
        done = number
        found.append(Stored(number, gauge.read().memory - before))
    return found


def measure_lookups(subject: Subject) -> list[Lookup]:
    """Read sessions that the pods have not read before, few and many at once."""
    idle = subject.gauge.share(subject.plan.rest)
    pods = min(LOOKUP_PODS, subject.plan.most)
    kinds = [(batch, False) for batch in BATCHES] + [(FULL_BATCH, True)]
    return [measure_lookup(subject, pods, batch, idle, seen=seen) for batch, seen in kinds]


def measure_lookup(subject: Subject, pods: int, batch: int, idle: float, *, seen: bool) -> Lookup:
    """Read new sessions with so many pods, `batch` at once."""
    share = subject.plan.sessions / 20  # of the sessions, for one kind
    each = max(1, min(COMMANDS // pods, int(share) // batch))
    numbers = subject.take(each * batch)
    with Price(subject.gauge, idle) as price:
        subject.fleet.read(pods, numbers=numbers, batch=batch, seen=seen)
    return Lookup(batch, seen, price.each(pods * each))


def measure_tables(subject: Subject) -> list[Table]:
    """Let different numbers of pods track different numbers of keys; measure the memory.

    Redis keeps the buffer that a long command needed, so each pod sends one such command before.
    """
    subject.fleet.read(subject.fleet.pods, numbers=(0, FULL_BATCH), batch=FULL_BATCH, seen=False)
    return [
        measure_table(subject, pods, subject.plan.table_keys(pods))
        for pods in sorted({1, *subject.plan.pods})
    ]


def measure_table(subject: Subject, pods: int, keys: int) -> Table:
    """Let these pods track so many keys that nobody tracks yet."""
    numbers = subject.take(keys)
    before = settled_memory(subject)
    subject.fleet.read(pods, numbers=numbers, batch=FULL_BATCH, seen=False)
    return Table(keys, pods, settled_memory(subject) - before)


def settled_memory(subject: Subject) -> int:
    """The memory in use after Redis has returned what buffers took for a while."""
    time.sleep(subject.plan.settle)
    return subject.gauge.read().memory


def measure_overflows(subject: Subject) -> list[Overflow]:
    """Serve requests while the table is large enough, and while it is not."""
    # What the pods write for each login that they see for the first time is written before.
    subject.fleet.read(
        subject.fleet.pods, numbers=(0, subject.plan.table_sessions), batch=FULL_BATCH
    )
    found = [measure_overflow(subject, share) for share in SHARES]
    subject.gauge.set(MOST_KEYS, 0)
    return found


def measure_overflow(subject: Subject, share: float) -> Overflow:
    """Serve requests while the table may hold this share of the sessions in use."""
    plan, fleet, gauge = subject.plan, subject.fleet, subject.gauge
    sessions, rate = plan.table_sessions, plan.rate / fleet.pods
    limit = int(share * sessions)
    empty_table(gauge)
    gauge.set(MOST_KEYS, limit)
    # All pods read everything once, so that a table that is large enough causes no reads later.
    fleet.read(fleet.pods, numbers=(0, sessions), batch=FULL_BATCH, seen=False)
    fleet.serve(rate, 2 * plan.serve, sessions)
    time.sleep(plan.serve)
    fleet.count()
    before = gauge.read()
    time.sleep(plan.serve * 0.9)
    after, counted = gauge.read(), fleet.count()
    time.sleep(plan.serve * 0.2)  # until the last requests are answered
    took = after.at - before.at
    return Overflow(
        limit=limit,
        sessions=sessions,
        pods=fleet.pods,
        tracked=after.tracked_keys,
        requests=(counted.hits + counted.reads) / took,
        reads=counted.reads / took,
        invalidations=counted.invalidated / took,
        cpu=(after.cpu - before.cpu) / took,
    )


def empty_table(gauge: Gauge) -> None:
    """Let Redis forget all keys that are tracked. Raises FleetError if it does not."""
    gauge.set(MOST_KEYS, 1)
    deadline = time.monotonic() + EMPTY_SECONDS
    while gauge.read().tracked_keys > 1:  # each command evicts some
        if time.monotonic() > deadline:
            raise FleetError("the tracking table does not become empty")
