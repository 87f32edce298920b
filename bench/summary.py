"""Medians, paired ratios, and the bars for them.

Only computes with what `suite` measured. Must not know processes, files or the form of tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from bench import usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.suite import Round


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy in a scenario. CPU in microseconds per request, latency in milliseconds."""

    cpu: float
    best: float
    worst: float
    user: float
    system: float
    redis: float
    per_second: float
    p50: float
    p99: float
    requests: int
    errors: int
    series: list[float]


Table: TypeAlias = "Mapping[str, Mapping[str, Figures]]"


@dataclass(frozen=True, slots=True)
class Bar:
    """The maximum of a ratio of CPU times; both sides are (proxy, scenario) pairs."""

    title: str
    subject: tuple[str, str]
    against: tuple[str, str]
    at_most: float
    goal: float | None = None


class Verdict(msgspec.Struct, frozen=True):
    """A bar and the measured ratio; `best` is the ratio of both sides' cheapest rounds."""

    title: str
    measured: float
    best: float
    at_most: float
    goal: float | None

    @property
    def held(self) -> bool:
        """Whether the ratio is within the bar."""
        return self.measured <= self.at_most


BARS = (
    Bar("small GET ÷ HAProxy", ("sidecar", "small"), ("haproxy", "small"), 1.2, 0.9),
    Bar("small GET ÷ Caddy's plain proxy", ("sidecar", "small"), ("caddy", "small"), 0.5),
    Bar("verify ÷ proxied small GET", ("sidecar", "verify"), ("sidecar", "small"), 0.6),
    Bar("1 MiB ÷ HAProxy", ("sidecar", "1m"), ("haproxy", "1m"), 1.2),
)


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
        requests=sum(done.load.requests for done in rounds),
        errors=sum(done.errors for done in rounds),
        series=series,
    )


def ratio(subject: Sequence[float], against: Sequence[float]) -> float:
    """The median of the ratios of the rounds, in which slow phases of the machine cancel out."""
    return median(one / other for one, other in zip(subject, against, strict=True))


def verdict_on(table: Table, bar: Bar) -> Verdict | None:
    """The verdict for a bar, or None if one of its sides was not measured."""
    subject = table.get(bar.subject[1], {}).get(bar.subject[0])
    against = table.get(bar.against[1], {}).get(bar.against[0])
    if subject is None or against is None:
        return None
    measured = ratio(subject.series, against.series)
    return Verdict(bar.title, measured, subject.best / against.best, bar.at_most, bar.goal)


def verdicts(table: Table, bars: Sequence[Bar] = BARS) -> list[Verdict]:
    """The verdicts for all bars of which both sides were measured."""
    return [verdict for bar in bars if (verdict := verdict_on(table, bar))]
