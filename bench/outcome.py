"""The result of a check: bars that are held or missed, and the tables behind them.

Owns their text. Must not measure or start anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import quantiles
from typing import TYPE_CHECKING

from bench import report
from bench.scenarios import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Outcome:
    """One bar: its name, the measured value, the limit, and whether it was held."""

    name: str
    measured: str
    bar: str
    held: bool

    def line(self) -> str:
        """The outcome as a line for a terminal."""
        word = "held  " if self.held else "MISSED"
        return f"{word} {self.name}: {self.measured} (bar: {self.bar})"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcomes of a check and its figures; `details` are Markdown paragraphs."""

    outcomes: list[Outcome]
    details: list[str]


def below(name: str, size: int, limit: int) -> Outcome:
    """An outcome for a size in MiB."""
    return Outcome(name, f"{size / MIB:.1f} MiB", f"under {limit // MIB} MiB", size < limit)


def at_most(name: str, value: float, limit: float, unit: str = "") -> Outcome:
    """An outcome for a ratio, or for a number with its `unit`."""
    shown, bar = f"{value:.2f} {unit}".strip(), f"at most {limit:g} {unit}".strip()
    return Outcome(name, shown, bar, value <= limit)


def p99(values: list[float]) -> float:
    """The 99th percentile."""
    return quantiles(values, n=100, method="inclusive")[98]


def outcome_table(outcomes: Sequence[Outcome]) -> str:
    """A Markdown table of outcomes for the results file."""
    rows = [[o.name, o.measured, o.bar, "held" if o.held else "MISSED"] for o in outcomes]
    return report.table(["check", "measured", "bar", ""], rows)
