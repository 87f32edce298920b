"""The tables of a report and the sections of the results file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench import report
from bench.summary import Figures, Verdict

if TYPE_CHECKING:
    from pathlib import Path


def figures(cpu: float, redis: float = 0.0) -> Figures:
    """The figures of a proxy with two equal rounds."""
    return Figures(
        cpu=cpu,
        best=cpu,
        worst=cpu,
        user=cpu / 2,
        system=cpu / 2,
        redis=redis,
        per_second=30000,
        p50=1,
        p99=2,
        requests=60000,
        errors=0,
        series=[cpu, cpu],
    )


def test_table_is_padded_markdown() -> None:
    """A table is Markdown and is padded to align in a terminal."""
    assert report.table(["name", "n"], [["a", "1"], ["long name", "22"]]).splitlines() == [
        "| name      |  n |",
        "| --------- | -: |",
        "| a         |  1 |",
        "| long name | 22 |",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param(7.421, "7.42", id="units"),
        pytest.param(25.13, "25.1", id="tens"),
        pytest.param(1234.5, "1,234", id="thousands"),
    ],
)
def test_about_three_digits(value: float, text: str) -> None:
    """Numbers are shown with about three significant digits."""
    assert report.significant(value) == text


def test_every_row_says_what_the_sidecar_costs_beside_it() -> None:
    """The ratio column has the sidecar's CPU divided by that of the row."""
    rows = {"sidecar": figures(24), "haproxy": figures(20)}
    lines = report.scenario_table(rows, {"sidecar": "ours", "haproxy": "theirs"}).splitlines()
    assert lines[0].split("|")[-2].strip() == "sidecar ÷"
    assert [line.split("|")[-2].strip() for line in lines[2:]] == ["1.00", "1.20"]


def test_without_the_sidecar_there_is_no_ratio() -> None:
    """Without a sidecar among the proxies, there is no ratio column."""
    assert "÷" not in report.scenario_table({"haproxy": figures(20)}, {"haproxy": "theirs"})


def test_missed_bars_stand_out() -> None:
    """A missed bar is written in capitals."""
    text = report.verdict_table(
        [Verdict("x", 1.3, 1.1, 1.2, 0.9), Verdict("y", 0.4, 0.3, 0.5, None)]
    )
    assert "MISSED" in text.splitlines()[2]
    assert "held" in text.splitlines()[3]


def test_section_is_replaced_in_place(tmp_path: Path) -> None:
    """A new section replaces the old section of the same name and no other."""
    path = tmp_path / "RESULTS.md"
    report.write_section(path, "comparison", "old")
    report.write_section(path, "checks", "kept")
    report.write_section(path, "comparison", "new")
    text = path.read_text()
    assert text.startswith("# Results\n")
    assert "old" not in text
    assert text.index("new") < text.index("kept")
    assert text.count("<!-- begin") == 2
