"""The bars of the check `soak`, and its words: what was seen in, outcomes and tables out.

Must not start or measure anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

import msgspec

from bench import report
from bench.orderly import KINDS, LIVES, LOADS
from bench.outcome import Outcome
from bench.scenarios import MIB
from bench.unruly import MANNERS, End

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from bench.restarts import Count
    from bench.unruly import Crowd
    from bench.vitals import Vitals

GROWTH: Final = 0.05  # of the memory after warm-up
LONGEST: Final = 300  # characters of a line of the log


@dataclass(frozen=True, slots=True)
class Plan:
    """Seconds: of the load in all, of it before memory is looked at, and of looking each time."""

    seconds: int
    warm_up: float
    window: float

    @classmethod
    def of(cls, seconds: int) -> Plan:
        """Warm for a tenth of the time, then two readings of a twentieth, at most half a minute."""
        return cls(seconds, seconds / 10, min(30.0, seconds / 20))


@dataclass(slots=True)
class Seen:
    """What was seen; `memory` are seconds since the load began and resident bytes."""

    before: Vitals
    under_load: Vitals
    rest: Vitals
    memory: list[tuple[float, int]]
    cpu: float  # of one CPU, while the load lasted
    answered: Count
    crowd: Crowd
    log: list[str]
    code: int


def judge(seen: Seen, plan: Plan) -> list[Outcome]:
    """The bars."""
    warm, end = levels(seen.memory, plan)
    failed = seen.answered.failures
    shown = "; ".join(f"{what} ({number})" for what, number in failed.most_common(3))
    asked = seen.answered.answered.total() + failed.total()
    before, rest = seen.before, seen.rest
    faults = [line for line in seen.log if is_fault(line)]
    told = "".join(f"; {line[:LONGEST]}" for line in faults[:3])
    grown = end / warm - 1
    return [
        Outcome(
            "memory at the end",
            f"{end / MIB:.1f} MiB, {grown:+.1%} on {warm / MIB:.1f} MiB after warm-up",
            f"at most +{GROWTH:.0%}",
            grown <= GROWTH,
        ),
        Outcome(
            "failed requests of well-behaved clients",
            f"{failed.total()} of {asked:,}{': ' * bool(shown)}{shown}",
            "0",
            not failed,
        ),
        nothing("requests in progress after the load", rest.in_flight),
        nothing("client connections after the load", rest.clients),
        nothing("upstream connections after the load, by the sidecar", rest.upstream),
        nothing("upstream connections after the load, by the kernel", rest.at_upstream),
        no_more("tasks after the load", rest.tasks, before.tasks),
        no_more("open files after the load, without Redis", rest.files, before.files),
        nothing("transitions between Redis and local memory", rest.transitions),
        Outcome("faults in the log", f"{len(faults)}{told}", "0", not faults),
        nothing("exit code after SIGTERM", seen.code),
        all_there("kinds of well-behaved clients", KINDS, seen.answered.answered),
        all_there("kinds of misbehaving clients", MANNERS, {name for name, _ in seen.crowd.seen}),
    ]


def levels(memory: Sequence[tuple[float, int]], plan: Plan) -> tuple[float, float]:
    """Median bytes in the window after warm-up, and in the last one."""
    first = [rss for at, rss in memory if plan.warm_up <= at < plan.warm_up + plan.window]
    last = [rss for at, rss in memory if at >= plan.seconds - plan.window]
    return median(first), median(last)


def nothing(name: str, number: int) -> Outcome:
    """An outcome of what must be zero."""
    return Outcome(name, f"{number}", "0", number == 0)


def no_more(name: str, number: int, before: int) -> Outcome:
    """An outcome of what may be there, as it was before."""
    return Outcome(name, f"{number}", f"at most {before}", number <= before)


def all_there(name: str, wanted: Collection[str], seen: Collection[str]) -> Outcome:
    """An outcome of what the load was made of: without it the other bars say little."""
    missing = ", ".join(each for each in wanted if each not in seen)
    return Outcome(name, f"no {missing}" if missing else f"{len(wanted)}", "all", not missing)


class Line(msgspec.Struct):
    """A line of its log, as far as it matters here; those of the access log have no level."""

    level: str = ""
    logger: str = ""
    exc: str = ""
    fault: str = ""


def is_fault(line: str) -> bool:
    """Whether this line of a log tells of anything but what a peer did: its bad answers may."""
    try:
        said = msgspec.json.decode(line, type=Line)
    except msgspec.DecodeError:
        return True  # from under the sidecar: the interpreter's own last words
    told = said.level in ("", "info") or (said.level == "warning" and said.fault)
    return bool(said.exc) or not told


def conditions(seen: Seen, plan: Plan) -> str:
    """What was done."""
    under = seen.under_load
    left, cut = seen.crowd.seen.total(), seen.crowd.ended.total()
    return (
        f"{plan.seconds} s of load on a sidecar with Redis, in front of nginx"
        f" (bench/peers/upstream-soak.conf). The sidecar used {seen.cpu:.0%} of one CPU. The load:"
        f" {len(LOADS)} wrks, {LIVES} clients that log in, refresh and log out, and"
        f" {3 * len(MANNERS)} misbehaving clients. {left:,} connections of the latter were reset,"
        f" closed, half-closed or abandoned in the middle of an operation (the sidecar had ended"
        f" {cut:,} of them before that). At the end of the load, the sidecar had"
        f" {under.in_flight} requests in progress, {under.clients} client and {under.upstream}"
        f" upstream connections ({under.at_upstream} of them to the application), {under.tasks}"
        f" tasks and {under.to_redis} connections to Redis. Tasks and open files are compared with"
        " those before the first request."
    )


def load_tables(seen: Seen) -> str:
    """Two tables: what was asked well, and what badly."""
    asked = [[name, f"{count:,}"] for name, count in seen.answered.answered.most_common()]
    rows = []
    for name in MANNERS:
        ends = [seen.crowd.seen[name, end] for end in End]
        rows.append([name, *(f"{count:,}" for count in ends), f"{seen.crowd.ended[name]:,}"])
    header = ["unruly", *(end.value for end in End), "ended by the sidecar"]
    return f"{report.table(['well-behaved', 'answered'], asked)}\n\n{report.table(header, rows)}"


def memory_line(seen: Seen, plan: Plan) -> str:
    """How its memory went."""
    length = plan.seconds / 10
    tenths = [[rss for at, rss in seen.memory if at // length == number] for number in range(10)]
    shown = ", ".join(f"{median(each) / MIB:.1f}" for each in tenths if each)
    return (
        f"Resident memory of the process (VmRSS), median in MiB of each tenth of the run: {shown}."
        f" The limit compares the median of the {plan.window:g} s after {plan.warm_up:g} s of"
        f" warm-up with the median of the last {plan.window:g} s."
    )
