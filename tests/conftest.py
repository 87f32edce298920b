"""Rules for all tests: skipped tests are reported prominently and fail CI.

Also lets property tests take their time, and keeps the heap of the test run out of the garbage
collector's way.
"""

from __future__ import annotations

import gc
import os
import shutil
import sysconfig
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

IN_CI: Final = os.environ.get("CI", "").lower() in {"true", "1"}
# Wheels install programs beside Python.
PATH: Final = f"{sysconfig.get_path('scripts')}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

# That an example takes long on a busy machine indicates no fault. In CI, this extends the profile
# that Hypothesis has for it.
settings.register_profile(
    "unhurried", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unhurried")


@pytest.fixture(scope="module", autouse=True)
def frozen_heap() -> Iterator[None]:
    """Collect the garbage of each module, and let later collections skip what survived.

    The tests and their reports are millions of objects. A full collection, which some tests ask
    for, would walk over all of them for seconds.
    """
    gc.freeze()
    yield
    gc.collect()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked `needs(program, …)` if one of the programs or files is missing."""
    for marker in item.iter_markers("needs"):
        for program in marker.args:
            if shutil.which(program, path=PATH) is None and not Path(program).is_file():
                pytest.skip(f"{program} is missing")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, turn a skipped test into a failed one; expected failures stay as they are."""
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: skipped, which CI does not allow: {why(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """In CI, turn a module or class that skips itself into a failed one."""
    report = yield
    if IN_CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid}: skipped, which CI does not allow: {why(report)}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one prominent line for each reason for which tests were skipped."""
    skipped = terminalreporter.stats.get("skipped", [])
    for reason, count in Counter(map(why, skipped)).most_common():
        tests = "1 test" if count == 1 else f"{count} tests"
        terminalreporter.write_line(f"NOT TESTED HERE: {tests}: {reason}", yellow=True, bold=True)


def why(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return the reason given for skipping."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return reason.removeprefix("Skipped: ")
