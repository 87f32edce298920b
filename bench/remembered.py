"""The check `remembered`: a hundred thousand tokens that are used once, beside tokens in use.

Measures the memory that the former take, and whether the latter are still remembered afterwards: a
token that is not costs as much as one that was never used.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from bench import load, report, seeding, sidecar, starting, usage
from bench.outcome import Finding, Outcome, at_most
from bench.passes import Meter, Pass
from bench.scenarios import MIB, Setup
from bench.tokens import Algorithm

if TYPE_CHECKING:
    from bench.lab import Lab

ONCE = 100_000
SIGNED = 20_000  # with RS256: fewer, because signing one takes a millisecond
USED = 2_000
PARTS = 5  # of the tokens that are used once; those in use are used after each part
CONNECTIONS = 64
TOKEN_LIMIT = 0.6 * 1024  # octets for each token that was used once
RSS_LIMIT = 110 * MIB
RATIO_LIMIT = 0.6


@dataclass(frozen=True, slots=True)
class Case:
    """A way to check tokens that need no session, and how many of them are used once."""

    title: str
    setup: Setup
    algorithm: Algorithm
    number: int
    redis: bool = False


CASES = (
    Case("HS256", Setup.STATELESS, Algorithm.HS256, ONCE),
    Case("HS256, revocations in Redis", Setup.STATELESS, Algorithm.HS256, ONCE, redis=True),
    Case("RS256 of another issuer", Setup.RS256, Algorithm.RS256, SIGNED),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """Resident octets before and after the tokens that are used once, and the cost of the others.

    `before` is a pass over the tokens in use while all of them are remembered, `after` the passes
    after each part, and `once` those parts.
    """

    case: Case
    at_first: int
    at_last: int
    before: list[Pass]
    once: list[Pass]
    after: list[Pass]

    @property
    def each(self) -> float:
        """Octets for each token that was used once."""
        return (self.at_last - self.at_first) / self.case.number

    @property
    def ratio(self) -> float:
        """The CPU of a token in use, compared with that of one that was never used before."""
        return cost(self.after) / cost(self.once)


def check(lab: Lab) -> Finding:
    """Run the check."""
    lab.start_redis()
    measured = [measure(lab, case) for case in CASES]
    outcomes = [outcome for one in measured for outcome in judge(one)]
    return Finding(outcomes, [conditions(), table(measured)])


def measure(lab: Lab, case: Case) -> Measured:
    """Measure one case at a sidecar of its own."""
    file = lab.directory / f"once-{case.algorithm}"
    used = lab.directory / f"used-{case.algorithm}"
    seeding.write_tokens(file, lab.tokens.fresh(case.algorithm, case.number))
    seeding.write_tokens(used, lab.tokens.fresh(case.algorithm, USED))
    special = starting.special(lab, case.setup)
    started = sidecar.start(lab, "sidecar-remembered", redis=case.redis, special=special)
    pids = usage.tree(started.child.pid)
    meter = Meter(lab, pids, started.port, CONNECTIONS)
    in_use = load.Rotation(used, 0, USED)
    for _ in range(3):  # verified, verified again and protected, and now remembered
        meter.run(in_use)
    before = [meter.run(in_use) for _ in range(PARTS)]
    meter.settle()
    at_first = usage.rss(pids)
    once, after = [], []
    part = case.number // PARTS
    for number in range(PARTS):
        once.append(meter.run(load.Rotation(file, number * part, part)))
        after.append(meter.run(in_use))
    meter.settle()
    at_last = usage.rss(pids)
    started.child.stop()
    return Measured(case, at_first, at_last, before, once, after)


def judge(measured: Measured) -> list[Outcome]:
    """Compare the figures of one case with the bars."""
    title = measured.case.title
    errors = sum(one.errors for one in (*measured.before, *measured.once, *measured.after))
    return [
        Outcome(
            f"{title}: memory of a token used once",
            f"{measured.each:,.0f} bytes",
            f"at most {TOKEN_LIMIT:,.0f} bytes",
            measured.each <= TOKEN_LIMIT,
        ),
        Outcome(
            f"{title}: RSS after {measured.case.number:,} of them",
            f"{measured.at_last / MIB:.1f} MiB",
            f"at most {RSS_LIMIT // MIB} MiB",
            measured.at_last <= RSS_LIMIT,
        ),
        at_most(f"{title}: token in use ÷ used once", measured.ratio, RATIO_LIMIT),
        Outcome(f"{title}: errors", f"{errors}", "0", errors == 0),
    ]


def cost(passes: list[Pass]) -> float:
    """CPU per request in µs."""
    return median(one.cpu for one in passes)


def conditions() -> str:
    """A description of what was measured."""
    return (
        f"Small GET, {CONNECTIONS} connections. {USED:,} tokens are in use: each is used before the"
        f" others, and again after each {ONCE // PARTS:,} of them ({SIGNED // PARTS:,} with RS256)."
    )


def table(measured: list[Measured]) -> str:
    """A table with one row per case."""
    rows = [
        [
            one.case.title,
            f"{one.case.number:,}",
            f"{one.at_first / MIB:.1f}",
            f"{one.at_last / MIB:.1f}",
            f"{one.each:,.0f}",
            *(report.significant(cost(each)) for each in (one.once, one.before, one.after)),
        ]
        for one in measured
    ]
    header = ["tokens", "used once", "RSS before, MiB", "after", "bytes each"]
    header += ["CPU µs, used once", "in use, before", "after"]
    return report.table(header, rows)
