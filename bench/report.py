"""How results are shown: Markdown tables for people, one document for programs.

Owns text only. Must not measure or start anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from bench.machine import Machine
from bench.summary import Figures, Verdict, ratio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

MIB = 1 << 20
HEADING = """# Results

Written by `python -m bench --write-results` and `python -m bench checks --write-results`, not by
hand. CPU is what the proxy's own processes used, per request. Read the ratios (`sidecar ÷` is the
sidecar's CPU divided by that row's, the median over rounds): both sides ran seconds apart.
"""


class Memory(msgspec.Struct, frozen=True):
    """Resident bytes of a proxy's processes, at rest and after the last round."""

    rest: int
    end: int


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """All of a run. `figures` and `titles` are keyed by scenario name, `memory` by proxy name."""

    date: str
    command: str
    machine: Machine
    rounds: int
    seconds: int
    pinned: bool
    others: float
    stolen: float
    proxies: dict[str, str]
    titles: dict[str, str]
    figures: dict[str, dict[str, Figures]]
    memory: dict[str, Memory]
    verdicts: list[Verdict]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded so that it also reads well in a terminal; numbers to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    left = [index == 0 for index in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if first else cell.rjust(width)
            for cell, width, first in zip(cells, widths, left, strict=True)
        ]
        return f"| {' | '.join(padded)} |"

    rule = [
        "-" * width if first else "-" * (width - 1) + ":"
        for width, first in zip(widths, left, strict=True)
    ]
    return "\n".join([line(header), f"| {' | '.join(rule)} |", *(line(row) for row in rows)])


def significant(value: float) -> str:
    """Three digits or so: 7.42, 25.1, 817."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def scenario_table(figures: Mapping[str, Figures], titles: Mapping[str, str]) -> str:
    """One scenario: a row for each proxy, a ratio column for each sidecar among them."""
    sidecars = [name for name in figures if name.startswith("sidecar")]
    header = ["proxy", "CPU µs", "min-max", "user", "system", "Redis µs"]
    header += ["requests/s", "p50 ms", "p99 ms", "errors", *(f"{name} ÷" for name in sidecars)]
    rows = []
    for name, row in figures.items():
        cells = [titles[name], significant(row.cpu)]
        cells += [f"{significant(row.best)}-{significant(row.worst)}"]
        cells += [significant(row.user), significant(row.system)]
        cells += [significant(row.redis) if row.redis else "", f"{row.per_second:,.0f}"]
        cells += [f"{row.p50:.2f}", f"{row.p99:.2f}", str(row.errors)]
        cells += [f"{ratio(figures[ours].series, row.series):.2f}" for ours in sidecars]
        rows.append(cells)
    return table(header, rows)


def verdict_table(verdicts: Sequence[Verdict]) -> str:
    """The bars."""
    rows = [
        [
            verdict.title,
            f"{verdict.measured:.2f}",
            f"{verdict.best:.2f}",
            f"{verdict.at_most:.2f}",
            "" if verdict.goal is None else f"{verdict.goal:.2f}",
            "held" if verdict.held else "MISSED",
        ]
        for verdict in verdicts
    ]
    return table(["bar (CPU per request)", "median", "best rounds", "at most", "goal", ""], rows)


def machine_lines(machine: Machine) -> str:
    """The machine and the versions as a list."""
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return (
        f"- machine: {machine.cpu}, {machine.cpus} CPUs, {machine.memory_gib} GiB, "
        f"Linux {machine.kernel}\n"
        f"- versions: {versions}"
    )


def conditions(results: Results) -> str:
    """When, where and how, with how quiet the machine was."""
    pinned = (
        "proxies on one CPU, wrk and upstream on another" if results.pinned else "nothing pinned"
    )
    return (
        f"- {results.date}, `{results.command}`\n"
        f"{machine_lines(results.machine)}\n"
        f"- median of {results.rounds} rounds of {results.seconds} s, in alternation; {pinned}\n"
        f"- during the run, other programs used {results.others:.0%} of the machine, and its host "
        f"withheld {results.stolen:.0%}; on a quiet machine both are 0 to 3 %"
    )


def markdown(results: Results) -> str:
    """The whole report."""
    parts = [conditions(results)]
    if results.verdicts:
        parts.append(verdict_table(results.verdicts))
    for name, figures in results.figures.items():
        parts.append(f"### {results.titles[name]} (`{name}`)")
        parts.append(scenario_table(figures, results.proxies))
    rows = [
        [results.proxies[name], f"{memory.rest / MIB:.1f}", f"{memory.end / MIB:.1f}"]
        for name, memory in results.memory.items()
    ]
    parts.append("### Resident memory")
    parts.append(table(["proxy", "at rest MiB", "at the end MiB"], rows))
    return "\n\n".join(parts) + "\n"


def replace_section(text: str, name: str, body: str) -> str:
    """`text` with the named generated section replaced, or appended when it has none."""
    begin, end = f"<!-- begin {name}, generated -->", f"<!-- end {name} -->"
    section = f"{begin}\n{body.strip()}\n{end}"
    before, found, rest = text.partition(begin)
    if not found:
        return f"{text.rstrip()}\n\n{section}\n"
    _, _, after = rest.partition(end)
    return f"{before}{section}{after}"


def write_section(path: Path, name: str, body: str) -> None:
    """Put a generated section into the results file, making the file when there is none."""
    text = path.read_text() if path.exists() else HEADING
    path.write_text(replace_section(text, name, body))
