"""Rules for every test: what cannot run here is named loudly, and in CI everything must run."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

IN_CI: Final = os.environ.get("CI", "").lower() in {"true", "1"}
PATH: Final = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked `needs(program, …)` when one of the programs is missing."""
    for marker in item.iter_markers("needs"):
        for program in marker.args:
            if shutil.which(program, path=PATH) is None:
                pytest.skip(f"{program} is missing")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test into a failed one in CI; an expected failure stays what it is."""
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: skipped, which CI does not allow: {why(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module or class that skips itself whole."""
    report = yield
    if IN_CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid}: skipped, which CI does not allow: {why(report)}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One loud line for each reason that tests were skipped for."""
    skipped = terminalreporter.stats.get("skipped", [])
    for reason, count in Counter(map(why, skipped)).most_common():
        tests = "1 test" if count == 1 else f"{count} tests"
        terminalreporter.write_line(f"NOT TESTED HERE: {tests}: {reason}", yellow=True, bold=True)


def why(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The reason given for skipping."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return reason.removeprefix("Skipped: ")
