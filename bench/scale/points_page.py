"""The tables of what was measured. Owns text only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bench.report import machine_lines, significant, table
from bench.scale.tally import DEADLINE, SILENCE

if TYPE_CHECKING:
    from bench.scale.points import Failover, Points, Run

KIB, GIB = 1 << 10, 1 << 30


REST = "**Pods at rest**, which only ping. Memory is that of all of Redis."
WRITES = (
    "**Writes.** µs of Redis' CPU for each, by the number of pods that track the key. A login "
    "writes keys that nobody tracks. Expiries are found in groups of up to 100, so that one packet "
    "has several of their notices."
)
DELIVERY = (
    "**Delivery.** Milliseconds from a `DEL` to its receipt, over all pods and changes. The "
    "simulated pods share one CPU, and the time that they take to read is included. `last pod` is "
    "the median of the receipts by the last pod."
)
LOOKUPS = "**Look-ups** of sessions that are new to the pod."
MEMORY = (
    "**Memory** of the tracking table, by its keys and the pods that track each, and of logins "
    "with all their keys."
)
OVERFLOW = (
    "**A full table.** Requests at all pods, with random sessions, while `tracking-table-max-keys` "
    "is above and below the number of sessions in use."
)
START = (
    "**A cold start.** All pods start at the same moment. As soon as it tracks Redis, each looks "
    "up the sessions for which its first requests wait. Where Redis is not busy, the time is that "
    "of the simulated pods, which share one CPU, and real pods are ready sooner."
)


def points_section(run: Run) -> str:
    """The conditions of the run, and all points."""
    points = run.points
    parts = [conditions(run)]
    parts += [REST, rests(points), WRITES, writes(points), DELIVERY, deliveries(points)]
    parts += [LOOKUPS, lookups(points), MEMORY, memory(points), OVERFLOW, overflows(points)]
    parts += [START, starts(points), *(failover(each) for each in points.failovers)]
    return "\n\n".join(parts)


def conditions(run: Run) -> str:
    """The time, command and machine of a run, and the unit of CPU there."""
    return (
        f"- {run.date}, `{run.command}`\n{machine_lines(run.machine)}\n"
        f"- during the run, other programs used {run.others:.0%} of the machine, and its host "
        f"withheld {run.stolen:.0%}; on a quiet machine both are 0 to 3 %\n"
        f"- the unit, one GET of redis-benchmark: {run.points.unit:.2f} µs of Redis' CPU"
    )


def rests(points: Points) -> str:
    """The pods at rest."""
    rows = [
        [
            f"{each.pods:,}",
            f"{each.connections:,}",
            f"{each.cpu:.2%}",
            f"{each.memory / GIB:.3f}",
        ]
        for each in points.rests
    ]
    return table(["pods", "connections", "CPU (of a core)", "memory GiB"], rows)


def writes(points: Points) -> str:
    """The writes, with all pods connected; logins by the number of pods that are connected."""
    most = max(each.connected for each in points.writes)
    found: dict[tuple[str, int], list[float]] = {}
    for each in points.writes:
        if each.kind != "login" and each.connected == most:
            found.setdefault((each.kind, each.pods), []).append(each.cpu)
        elif each.kind == "login":
            found.setdefault((each.kind, each.connected), []).append(each.cpu)
    kinds = ("login", "refresh", "logout", "expiry")
    rows = [
        [
            f"{pods:,}",
            *(
                significant(sum(costs) / len(costs)) if (costs := found.get((kind, pods))) else ""
                for kind in kinds
            ),
        ]
        for pods in sorted({pods for _, pods in found})
    ]
    return table(
        ["pods", "login (pods connected)", *(f"{kind} (pods track it)" for kind in kinds[1:])], rows
    )


def deliveries(points: Points) -> str:
    """The times of delivery."""
    rows = [
        [
            *(f"{each.pods:,}", f"{each.changes:,}"),
            *(f"{ms:.2f}" for ms in (each.p50, each.p99, each.most, each.last)),
        ]
        for each in points.deliveries
    ]
    return table(["pods", "changes", "p50 ms", "p99 ms", "max ms", "last pod ms"], rows)


def lookups(points: Points) -> str:
    """The look-ups."""
    rows = [
        [
            f"{each.batch:,}" + (", last-seen times written" if each.seen else ""),
            significant(each.cpu),
            significant(each.cpu / each.batch),
        ]
        for each in points.lookups
    ]
    return table(["sessions per command", "CPU µs per command", "per session"], rows)


def memory(points: Points) -> str:
    """The memory of the tracking table and of logins."""
    rows = [
        [
            f"{each.keys:,} tracked keys",
            f"{each.pods:,}",
            f"{each.size / KIB:,.0f}",
            significant(each.size / each.keys),
        ]
        for each in points.tables
    ]
    rows += [
        [
            f"{each.logins:,} logins",
            "",
            f"{each.size / KIB:,.0f}",
            significant(each.size / each.logins),
        ]
        for each in points.stored
    ]
    return table(["what", "pods", "KiB", "bytes of each"], rows)


def overflows(points: Points) -> str:
    """What a full table does."""
    rows = [
        [
            *(f"{each.limit:,}", f"{each.sessions:,}", f"{each.pods:,}", f"{each.tracked:,}"),
            *(f"{each.requests:,.0f}", f"{each.reads:,.0f}", f"{each.reads / each.requests:.1%}"),
            *(f"{each.invalidations:,.0f}", f"{each.cpu:.1%}"),
        ]
        for each in points.overflows
    ]
    header = ["max keys", "sessions in use", "pods", "keys tracked", "requests/s", "reads/s"]
    header += ["reads per request", "invalidations/s", "CPU (of a core)"]
    return table(header, rows)


def starts(points: Points) -> str:
    """The cold starts."""
    rows = [
        [
            *(f"{each.pods:,}", f"{each.reads:,}", f"{each.ready:.2f}", f"{each.warm:.2f}"),
            *(f"{each.cpu:.3f}", f"{each.cpu / each.warm:.0%}"),
            *(f"{each.cpu * 1e6 / each.pods:,.0f}", f"{each.peak:,.0f}", f"{each.late:.0%}"),
            f"{each.silent:,}",
        ]
        for each in points.storms
    ]
    header = ["pods", "sessions each", "all track after s", "all have read after s"]
    header += ["CPU s", "Redis busy", "CPU µs per pod", "peak commands/s"]
    header += [f"look-ups over {DEADLINE * 1e3:.0f} ms", f"pings over {SILENCE * 1e3:.0f} ms"]
    return table(header, rows)


def failover(each: Failover) -> str:
    """A failover: what was read in each second after it, and what the formula says."""
    said = expected_reads(each)
    rows = [
        [f"{second} to {second + 1}", f"{reads:,.0f}", f"{formula:,.0f}"]
        for second, (reads, formula) in enumerate(zip(each.after, said, strict=True))
    ]
    text = (
        f"**A failover** with warm caches: {each.pods:,} pods with {each.sessions:,} sessions each,"
        f" {each.rate:,.0f} requests/s in total ({each.before:,.0f} reads/s before it). Redis is"
        f" killed and its replica promoted. All pods track the new one {each.tracking:.2f} s later."
        f" Until then, {each.local:,} requests found no Redis and used the pod's memory, and"
        f" {each.untracked:,} sessions were read without being cached. The peak was"
        f" {each.peak:,.0f} commands/s, and {each.busiest:.0%} of a core."
    )
    return f"{text}\n\n{table(['second after it', 'reads/s', 'formula'], rows)}"


def expected_reads(each: Failover) -> list[float]:
    """Reads per second if each pod reads each session once more, when it is requested first.

    A pod with q requests per second and n sessions has not yet read one with probability
    exp(-q t / n).
    """
    decay = each.rate / each.pods / each.sessions
    most = each.pods * each.sessions

    def unread(at: float) -> float:
        return most * math.exp(-decay * at)

    return [unread(second) - unread(second + 1) for second in range(len(each.after))]
