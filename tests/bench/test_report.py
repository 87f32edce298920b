"""The tables of a report and the sections of the results file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench import report
from bench.bars import Quantity
from bench.summary import Figures, Verdict

if TYPE_CHECKING:
    from pathlib import Path


def figures(cpu: float, redis: float = 0.0, errors: int = 0, added: float = 0.0) -> Figures:
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
        p999=3,
        busy=0.97,
        client=0.4,
        rss=50 << 20,
        late=0.125,
        requests=60000,
        errors=errors,
        series=[cpu, cpu],
        tails=[2, 2],
        added=[added, added] if added else [],
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


def test_who_was_the_limit_can_be_read() -> None:
    """A row says how busy proxy and client were, and has the memory and the rare latencies."""
    lines = report.scenario_table({"haproxy": figures(20)}, {"haproxy": "theirs"}).splitlines()
    cells = dict(
        zip(*([cell.strip() for cell in line.split("|")] for line in lines[::2]), strict=True)
    )
    assert (cells["busy"], cells["client"]) == ("97%", "40%")
    assert (cells["p99.9 ms"], cells["RSS MiB"]) == ("3.00", "50.0")


def test_wrong_answers_win_nothing() -> None:
    """A proxy with errors has no ratio, ours neither: an early 401 costs less than the work."""
    for wrong in ("sidecar", "haproxy"):
        rows = {
            name: figures(20, errors=7 if name == wrong else 0) for name in ("sidecar", "haproxy")
        }
        last = report.scenario_table(rows, {name: name for name in rows}).splitlines()[-1]
        errors = "7" if wrong == "haproxy" else "0"
        assert [cell.strip() for cell in last.split("|")][-3:-1] == [errors, ""]


def test_added_latency_has_a_column() -> None:
    """If latency was measured without a proxy too, the table says what each proxy adds."""
    rows = {"haproxy": figures(20, added=0.25), "direct": figures(9)}
    header, _, one, other = report.scenario_table(rows, {name: name for name in rows}).splitlines()
    column = [cell.strip() for cell in header.split("|")].index("added p99 ms")
    assert [line.split("|")[column].strip() for line in (one, other)] == ["0.25", ""]
    assert [line.split("|")[column + 1].strip() for line in (one, other)] == ["0.12", "0.12"]


def test_missed_bars_stand_out() -> None:
    """A missed bar is written in capitals."""
    text = report.verdict_table(
        [
            Verdict("x", Quantity.CPU, 1.3, 1.1, 1.2, 0.9),
            Verdict("y", Quantity.ADDED, 0.4, 0.3, 0.5, None, busy=(0.97, 0.5)),
            Verdict("z", Quantity.CPU, 0.4, 0.3, 0.5, None, errors=12),
        ]
    )
    missed, held, wrong = text.splitlines()[2:]
    assert "MISSED" in missed
    assert "held" in held
    assert "97% / 50%" in held
    assert "MISSED (12 errors)" in wrong


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
