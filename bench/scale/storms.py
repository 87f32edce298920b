"""All pods at once: a cold start, and a failover with warm caches.

Must not fit or show anything.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import seeding
from bench.scale.fleet import Fleet, FleetError
from bench.scale.gauge import Gauge
from bench.scale.points import Failover, Storm
from bench.scale.population import logins
from bench.scale.subject import PROCESSES, server_options
from bench.scale.tally import SLOT_SECONDS, joined

if TYPE_CHECKING:
    from bench.children import Child
    from bench.lab import Lab
    from bench.scale.subject import Plan
    from sidecar.auth.value_mac import ValueMac

SYNC_SECONDS = 30.0
LONGEST_SECONDS = 30.0


def measure_starts(lab: Lab, plan: Plan, mac: ValueMac, gauge: Gauge) -> list[Storm]:
    """Start all pods at once, which then read sessions at once, for each number of pods."""
    found = []
    for pods in plan.pods:
        with Fleet(lab, mac.realm, lab.redis_port, PROCESSES) as fleet:
            found.append(measure_start(fleet, gauge, pods, plan))
    return found


def measure_start(fleet: Fleet, gauge: Gauge, pods: int, plan: Plan) -> Storm:
    """Start so many pods at once."""
    wait_for_quiet(gauge)
    before = gauge.read()
    counted = [fleet.start(pods, reads=plan.storm_reads, wait=False)]
    samples = []
    while sum(each.reads for each in counted) < pods * plan.storm_reads:
        samples += gauge.samples(SLOT_SECONDS)
        counted.append(fleet.count())
        if time.monotonic() > before.at + LONGEST_SECONDS:
            raise FleetError(f"{pods} pods did not start within {LONGEST_SECONDS:g} s")
    after, total = gauge.read(), joined(counted)
    return Storm(
        pods=pods,
        reads=plan.storm_reads,
        ready=total.ready[-1] - before.at,
        warm=(max(total.slots) + 1) * SLOT_SECONDS - before.at,
        cpu=after.cpu - before.cpu,
        peak=max(each.commands for each in samples),
        late=total.late / total.reads,
        silent=total.silent,
    )


def wait_for_quiet(gauge: Gauge) -> None:
    """Return when Redis has closed the connections of pods that have ended. Raises FleetError."""
    deadline, last = time.monotonic() + LONGEST_SECONDS, -1
    while (clients := gauge.read().clients) != last:
        if time.monotonic() > deadline:
            raise FleetError("connections are still opened and closed")
        last = clients
        time.sleep(SLOT_SECONDS)


def measure_failovers(lab: Lab, plan: Plan, mac: ValueMac) -> list[Failover]:
    """Kill a Redis and promote its replica, with all pods and requests at them."""
    options = server_options(plan)
    old, port = lab.spawn_redis("redis-old", *options, "--repl-diskless-sync-delay", "0")
    new, other = lab.spawn_redis("redis-new", *options)
    with Gauge(port, old.pid) as first, Gauge(other, new.pid) as second:
        seeding.insert(port, logins(0, plan.storm_reads, mac))
        second.redis.replicaof("127.0.0.1", str(port))
        wait_for_sync(second)
        with Fleet(lab, mac.realm, port, PROCESSES) as fleet:
            return [measure_failover(fleet, plan, Pair(old, first, second, other))]


@dataclass(frozen=True, slots=True)
class Pair:
    """A primary that will be killed, and its replica at `port`."""

    old: Child
    first: Gauge
    second: Gauge
    port: int

    def fail_over(self) -> float:
        """Kill the primary and promote the replica at once. Returns when that was done."""
        self.old.process.kill()
        self.old.process.wait()
        self.second.redis.replicaof("NO", "ONE")
        return time.monotonic()


def wait_for_sync(replica: Gauge) -> None:
    """Return when the replica has all that the primary has. Raises FleetError."""
    deadline = time.monotonic() + SYNC_SECONDS
    while replica.redis.info("replication")["master_link_status"] != "up":
        if time.monotonic() > deadline:
            raise FleetError("the replica does not follow")
        time.sleep(0.05)


def measure_failover(fleet: Fleet, plan: Plan, pair: Pair) -> Failover:
    """Warm the caches, and let Redis fail over while requests arrive."""
    sessions, rate = plan.storm_reads, plan.rate / plan.most
    fleet.start(plan.most)
    fleet.read(plan.most, numbers=(0, sessions), batch=sessions)
    fleet.serve(rate, plan.serve + plan.after + 1, sessions)
    fleet.count()
    pair.first.share(plan.serve)
    before = fleet.count()
    promoted = pair.fail_over()
    counted = [fleet.move(pair.port)]
    samples = pair.second.samples(plan.after)
    counted.append(fleet.count())
    total = joined(counted)
    if len(total.ready) < plan.most:
        raise FleetError(f"only {len(total.ready)} of {plan.most} pods track the new Redis")
    return Failover(
        pods=plan.most,
        sessions=sessions,
        rate=plan.rate,
        before=before.reads / plan.serve,
        after=per_second(total.slots, promoted, plan.after),
        tracking=total.ready[-1] - promoted,
        local=total.local,
        untracked=total.untracked,
        peak=max(each.commands for each in samples),
        busiest=max(each.busy for each in samples),
    )


def per_second(slots: dict[int, int], since: float, seconds: int) -> list[float]:
    """The reads of each second after a moment, from those of each slot."""
    found = [0.0] * seconds
    for slot, reads in slots.items():
        second = math.floor((slot + 0.5) * SLOT_SECONDS - since)
        if 0 <= second < seconds:
            found[second] += reads
    return found
