"""The suite fails when any single rule is switched off, by a change of the sidecar's source.

This shows that the vectors test these rules and do not pass for another reason.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.vectors.corpus import ANSWERS, REQUESTS
from tests.vectors.rules import CONTROL, RULES, Rule

ROOT: Final = Path(__file__).parents[2]
every_rule = pytest.mark.parametrize("rule", [pytest.param(rule, id=str(rule)) for rule in RULES])


@pytest.fixture(scope="module")
def failures(request: pytest.FixtureRequest) -> dict[str, str | None]:
    """Return, for each rule of this run, the vector that failed without it."""
    asked = {item.name for item in request.session.items if item.path == Path(__file__)}
    wanted = [rule.name for rule in RULES if f"test_rule_matters[{rule}]" in asked]
    played = subprocess.run(
        [sys.executable, "-m", "tests.vectors.mutants", CONTROL.name, *wanted],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        timeout=590,
        check=True,
    )
    return dict(map(json.loads, played.stdout.splitlines()))


@pytest.mark.timeout(600)  # the first test waits for all of them: some 15 s on two cores
def test_nothing_fails_by_itself(failures: dict[str, str | None]) -> None:
    """With all rules in place, every one of their vectors passes."""
    assert failures[CONTROL.name] is None


@pytest.mark.timeout(600)
@every_rule
def test_rule_matters(rule: Rule, failures: dict[str, str | None]) -> None:
    """With the rule switched off, at least one of its vectors fails."""
    assert rule.name in failures, "no result: does the changed source still compile?"
    assert failures[rule.name] is not None, f"no vector of {rule.vectors} needs this rule"


@every_rule
def test_rule_is_found(rule: Rule) -> None:
    """The rule occurs exactly once in the source, and its vectors are in the corpus."""
    source = ROOT / f"{rule.module.replace('.', '/')}.py"
    rule.switch_off(source.read_text("utf-8"))
    assert set(rule.vectors) <= REQUESTS.keys() | ANSWERS.keys()


def test_rules_are_many_and_apart() -> None:
    """There are at least 100 rules, and their names are unique."""
    assert len({rule.name for rule in RULES}) == len(RULES) >= 100
