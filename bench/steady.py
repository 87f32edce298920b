"""The bars of the check `soak`, and the text about its observations.

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

GROWTH: Final = 0.05  # share of the memory after warm-up
LONGEST: Final = 300  # characters of a log line


@dataclass(frozen=True, slots=True)
class Plan:
    """Seconds: the load in total, the warm-up before memory is read, and each reading window."""

    seconds: int
    warm_up: float
    window: float

    @classmethod
    def of(cls, seconds: int) -> Plan:
        """A warm-up of a tenth of the time, and windows of a twentieth, at most 30 s."""
        return cls(seconds, seconds / 10, min(30.0, seconds / 20))


@dataclass(slots=True)
class Seen:
    """The observations; `memory` has pairs of seconds since the start of the load and bytes."""

    before: Vitals
    under_load: Vitals
    rest: Vitals
    memory: list[tuple[float, int]]
    cpu: float  # share of one CPU during the load
    answered: Count
    crowd: Crowd
    log: list[str]
    code: int


def judge(seen: Seen, plan: Plan) -> list[Outcome]:
    """Compare the observations with the bars."""
    warm, end = levels(seen.memory, plan)
    failed = seen.answered.failures
    shown = "; ".join(f"{what} ({number})" for what, number in failed.most_common(3))
    asked = seen.answered.answered.total() + failed.total()
    before, rest = seen.before, seen.rest
    faults = [line for line in seen.log if is_fault(line)]
    examples = "".join(f"; {line[:LONGEST]}" for line in faults[:3])
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
        Outcome("faults in the log", f"{len(faults)}{examples}", "0", not faults),
        nothing("exit code after SIGTERM", seen.code),
        all_there("kinds of well-behaved clients", KINDS, seen.answered.answered),
        all_there("kinds of misbehaving clients", MANNERS, {name for name, _ in seen.crowd.seen}),
    ]


def levels(memory: Sequence[tuple[float, int]], plan: Plan) -> tuple[float, float]:
    """The median bytes in the window after the warm-up and in the last window."""
    first = [rss for at, rss in memory if plan.warm_up <= at < plan.warm_up + plan.window]
    last = [rss for at, rss in memory if at >= plan.seconds - plan.window]
    return median(first), median(last)


def nothing(name: str, number: int) -> Outcome:
    """An outcome for a number that must be zero."""
    return Outcome(name, f"{number}", "0", number == 0)


def no_more(name: str, number: int, before: int) -> Outcome:
    """An outcome for a number that must not exceed the number before the load."""
    return Outcome(name, f"{number}", f"at most {before}", number <= before)


def all_there(name: str, wanted: Collection[str], seen: Collection[str]) -> Outcome:
    """An outcome for the parts of the load: if one is missing, the other bars mean little."""
    missing = ", ".join(each for each in wanted if each not in seen)
    return Outcome(name, f"no {missing}" if missing else f"{len(wanted)}", "all", not missing)


class Line(msgspec.Struct):
    """The fields of a log line that are used here; lines of the access log have no level."""

    level: str = ""
    logger: str = ""
    exc: str = ""
    fault: str = ""


def is_fault(line: str) -> bool:
    """Whether a log line reports anything except normal events and the behaviour of a peer."""
    try:
        record = msgspec.json.decode(line, type=Line)
    except msgspec.DecodeError:
        return True  # not a log record of the sidecar: printed by the interpreter
    normal = record.level in ("", "info") or (record.level == "warning" and record.fault)
    return bool(record.exc) or not normal


def conditions(seen: Seen, plan: Plan) -> str:
    """A description of what was done."""
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
    """Two tables: the responses to well-behaved clients, and the ends of misbehaving ones."""
    asked = [[name, f"{count:,}"] for name, count in seen.answered.answered.most_common()]
    rows = []
    for name in MANNERS:
        ends = [seen.crowd.seen[name, end] for end in End]
        rows.append([name, *(f"{count:,}" for count in ends), f"{seen.crowd.ended[name]:,}"])
    header = ["misbehaving", *(end.value for end in End), "ended by the sidecar"]
    return f"{report.table(['well-behaved', 'answered'], asked)}\n\n{report.table(header, rows)}"


def memory_line(seen: Seen, plan: Plan) -> str:
    """The course of the resident memory, in sentences."""
    length = plan.seconds / 10
    tenths = [[rss for at, rss in seen.memory if at // length == number] for number in range(10)]
    shown = ", ".join(f"{median(each) / MIB:.1f}" for each in tenths if each)
    return (
        f"Resident memory of the process (VmRSS), median in MiB of each tenth of the run: {shown}."
        f" The limit compares the median of the {plan.window:g} s after {plan.warm_up:g} s of"
        f" warm-up with the median of the last {plan.window:g} s."
    )
