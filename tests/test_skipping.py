"""The rules of `conftest.py`, tested by running pytest on small test files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[[str, str], pytest.RunResult]

CONFTEST = Path(__file__).with_name("conftest.py")

MARKED = """
    import pytest

    @pytest.mark.needs("no-such-program")
    def test_needing(): ...
"""
WHOLE_MODULE = """
    import pytest

    pytest.skip("not on a Monday", allow_module_level=True)
"""
EXPECTED_FAILURE = """
    import pytest

    @pytest.mark.xfail(reason="not yet")
    def test_failing(): assert False
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run one test file under our rules, with CI set as given."""

    def _run(source: str, ci: str) -> pytest.RunResult:
        monkeypatch.setenv("CI", ci)
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # 0.4 s a run against 2.5
        pytester.makeconftest(CONFTEST.read_text())
        pytester.makeini("[pytest]\nmarkers = needs\n")
        pytester.makepyfile(source)
        return pytester.runpytest_subprocess("-p", "no:cacheprovider")

    return _run


@pytest.mark.parametrize(
    ("source", "loud"),
    [
        pytest.param(MARKED, "1 test: no-such-program is missing", id="a missing program"),
        pytest.param(WHOLE_MODULE, "1 test: not on a Monday", id="a whole module"),
    ],
)
def test_a_laptop_skips_loudly(run: Run, source: str, loud: str) -> None:
    """Without CI, a skipped test is no failure, and one line states its reason."""
    result = run(source, "")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines([f"NOT TESTED HERE: {loud}"])


@pytest.mark.parametrize(
    "source", [pytest.param(MARKED, id="a test"), pytest.param(WHOLE_MODULE, id="a module")]
)
def test_ci_fails_what_is_skipped(run: Run, source: str) -> None:
    """With CI set, a skipped test fails the run with the reason."""
    result = run(source, "true")
    assert result.ret != pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*skipped, which CI does not allow*"])


def test_ci_lets_an_expected_failure_be(run: Run) -> None:
    """An expected failure was run, so it does not count as skipped."""
    result = run(EXPECTED_FAILURE, "true")
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(xfailed=1)
