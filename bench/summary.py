"""Medians, paired ratios, and verdicts on bars.

Only computes with what `suite` measured. Must not know processes, files or the form of tables.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from bench import usage
from bench.bars import Bar, Quantity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.suite import Round


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy in a scenario. CPU in microseconds per request, latency in milliseconds.

    `busy` is the share of one CPU that the proxy used, `client` that of the program that made the
    load, `rss` the highest memory in bytes at the end of a round. `late` is how late that program
    sent requests at a fixed rate (99th percentile). `series` has the CPU of each
    round, `tails` the 99th percentile of latency, and `added` by how much that exceeds the 99th
    percentile without a proxy, if that was measured.
    """

    cpu: float
    best: float
    worst: float
    user: float
    system: float
    redis: float
    per_second: float
    p50: float
    p99: float
    p999: float
    busy: float
    client: float
    rss: int
    late: float
    requests: int
    errors: int
    series: list[float]
    tails: list[float]
    added: list[float] = []


Table: TypeAlias = "Mapping[str, Mapping[str, Figures]]"
LEAST_ADDED = 0.001  # ms: what is added cannot be measured more precisely, and must not be 0


class Verdict(msgspec.Struct, frozen=True):
    """A bar and the measured ratio; `best` is the ratio of both sides' lowest rounds.

    `errors` are those of both sides: what does not answer correctly cannot hold a bar. `busy` has
    the shares of one CPU that the two used. One that is not fully busy costs somewhat more per
    request, because it finds less work each time it wakes up.
    """

    title: str
    quantity: Quantity
    measured: float
    best: float
    at_most: float
    goal: float | None
    errors: int = 0
    busy: tuple[float, float] = (0.0, 0.0)

    @property
    def held(self) -> bool:
        """Whether the ratio is within the bar, and all responses were right."""
        return self.errors == 0 and self.measured <= self.at_most


def cpu_per_request(done: Round) -> float:
    """Microseconds of the proxy's CPU per request; infinite if there was no response."""
    if not done.load.requests:
        return float("inf")
    return done.cpu.nanoseconds / 1e3 / done.load.requests


def summarise(rounds: Sequence[Round]) -> Figures:
    """The medians of a proxy's rounds in a scenario."""
    series = [cpu_per_request(done) for done in rounds]
    cpu = median(series)
    share = usage.system_share(
        sum(done.cpu.user for done in rounds), sum(done.cpu.system for done in rounds)
    )
    return Figures(
        cpu=cpu,
        best=min(series),
        worst=max(series),
        user=cpu * (1 - share),
        system=cpu * share,
        redis=median(done.redis_ns / 1e3 / max(1, done.load.requests) for done in rounds),
        per_second=median(done.load.per_second for done in rounds),
        p50=median(done.load.p50_us for done in rounds) / 1e3,
        p99=median(done.load.p99_us for done in rounds) / 1e3,
        p999=median(done.load.p999_us for done in rounds) / 1e3,
        busy=median(share_of_time(done.cpu.nanoseconds / 1e3, done) for done in rounds),
        client=median(share_of_time(done.load.client_us, done) for done in rounds),
        rss=max(done.rss for done in rounds),
        late=median(done.load.late_us for done in rounds) / 1e3,
        requests=sum(done.load.requests for done in rounds),
        errors=sum(done.errors for done in rounds),
        series=series,
        tails=[done.load.p99_us / 1e3 for done in rounds],
    )


def share_of_time(used_us: float, done: Round) -> float:
    """The share of a burst's duration for which a CPU was used."""
    return used_us / max(1, done.load.duration_us)


def beyond(row: Figures, direct: Figures) -> Figures:
    """`row` with what the proxy added to the latency without it, round by round."""
    added = [
        max(LEAST_ADDED, own - least) for own, least in zip(row.tails, direct.tails, strict=True)
    ]
    return msgspec.structs.replace(row, added=added)


def ratio(subject: Sequence[float], against: Sequence[float]) -> float:
    """The median of the ratios of the rounds, in which slow phases of the machine cancel out."""
    return median(one / other for one, other in zip(subject, against, strict=True))


def verdict_on(table: Table, bar: Bar) -> Verdict | None:
    """The verdict for a bar, or None if one of its sides was not measured."""
    subject = table.get(bar.subject[1], {}).get(bar.subject[0])
    against = table.get(bar.against[1], {}).get(bar.against[0])
    if subject is None or against is None:
        return None
    sides = [
        one.series if bar.quantity is Quantity.CPU else one.added for one in (subject, against)
    ]
    if not all(sides):
        return None
    return Verdict(
        bar.title,
        bar.quantity,
        ratio(*sides),
        min(sides[0]) / min(sides[1]),
        bar.at_most,
        bar.goal,
        subject.errors + against.errors,
        (subject.busy, against.busy),
    )


def verdicts(table: Table, bars: Sequence[Bar]) -> list[Verdict]:
    """The verdicts for all bars of which both sides were measured."""
    return [verdict for bar in bars if (verdict := verdict_on(table, bar))]
