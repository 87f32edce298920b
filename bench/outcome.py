"""The result of a check: bars that are held or missed, and the tables behind them.

Owns their text. Must not measure or start anything. An absolute bar, such as one in milliseconds,
has a control: what the same machine took in the same run where the sidecar had no part. If the
control says that the machine was too slow or too busy, a bar that is not held is undecided.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import quantiles
from typing import TYPE_CHECKING

from bench import report
from bench.scenarios import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Control:
    """What the machine took without the sidecar: what it was, and whether that allows a verdict."""

    measured: str
    sound: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """One bar: its name, the measured value, the limit, and whether it was held."""

    name: str
    measured: str
    bar: str
    held: bool
    control: Control | None = None

    @property
    def missed(self) -> bool:
        """Whether the bar was not held on a machine that allowed it to be."""
        return not self.held and (self.control is None or self.control.sound)

    @property
    def word(self) -> str:
        """Whether the bar was held; if the machine decided that, what it took for the control."""
        if self.held:
            return "held"
        if self.missed or self.control is None:
            return "MISSED"
        return f"undecided: {self.control.measured}"

    def line(self) -> str:
        """The outcome as a line for a terminal."""
        word, colon, control = self.word.partition(":")
        more = f"; the machine was too slow or too busy{colon}{control}" if colon else ""
        return f"{word:<9} {self.name}: {self.measured} (bar: {self.bar}){more}"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcomes of a check and its figures; `details` are Markdown paragraphs."""

    outcomes: list[Outcome]
    details: list[str]


def below(name: str, size: int, limit: int) -> Outcome:
    """An outcome for a size in MiB."""
    return Outcome(name, f"{size / MIB:.1f} MiB", f"under {limit // MIB} MiB", size < limit)


def at_most(
    name: str, value: float, limit: float, unit: str = "", control: Control | None = None
) -> Outcome:
    """An outcome for a ratio, or for a number with its `unit`."""
    shown, bar = f"{value:.2f} {unit}".strip(), f"at most {limit:g} {unit}".strip()
    return Outcome(name, shown, bar, value <= limit, control)


def control(what: str, value: float, most: float, unit: str) -> Control:
    """A control that is sound up to `most`."""
    return Control(f"{what} took {value:.2f} {unit}, and may take {most:g} {unit}", value <= most)


def disturbed(outcomes: Sequence[Outcome], seen: Control) -> list[Outcome]:
    """The outcomes with a control that concerns each of them; a stricter one of theirs is kept."""
    return [
        one if one.control is not None and not one.control.sound else replace(one, control=seen)
        for one in outcomes
    ]


def p99(values: list[float]) -> float:
    """The 99th percentile."""
    return quantiles(values, n=100, method="inclusive")[98]


def exit_status(outcomes: Sequence[Outcome]) -> int:
    """1 if a bar is missed; 3 if none is, but the machine left some undecided; otherwise 0."""
    if any(outcome.missed for outcome in outcomes):
        return 1
    return 0 if all(outcome.held for outcome in outcomes) else 3


def outcome_table(outcomes: Sequence[Outcome]) -> str:
    """A Markdown table of outcomes for the results file."""
    rows = [[each.name, each.measured, each.bar, each.word] for each in outcomes]
    return report.table(["check", "measured", "bar", ""], rows)
