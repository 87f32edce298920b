"""The suite fails when any one rule is switched off: each is taken out of the source in turn.

What is shown is that the vectors are about these rules, and not merely green.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

from tests.vectors.corpus import ANSWERS, REQUESTS
from tests.vectors.rules import CONTROL, RULES, Rule

ROOT: Final = Path(__file__).parents[2]
every_rule = pytest.mark.parametrize("rule", [pytest.param(rule, id=str(rule)) for rule in RULES])


@pytest.fixture(scope="module")
def failures(request: pytest.FixtureRequest) -> dict[str, str | None]:
    """For each rule of this run, the vector that failed without it."""
    asked = {item.name for item in request.session.items if item.path == Path(__file__)}
    wanted = [rule.name for rule in RULES if f"test_rule_matters[{rule}]" in asked]
    played = subprocess.run(
        [sys.executable, "-m", "tests.vectors.mutants", CONTROL.name, *wanted],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        timeout=170,
        check=True,
    )
    return dict(map(json.loads, played.stdout.splitlines()))


@pytest.mark.timeout(180)  # the first test of this module waits for all: some 15 s on two cores
def test_nothing_fails_by_itself(failures: dict[str, str | None]) -> None:
    """With all rules in place every one of their vectors holds, played in the same way."""
    assert failures[CONTROL.name] is None


@pytest.mark.timeout(180)
@every_rule
def test_rule_matters(rule: Rule, failures: dict[str, str | None]) -> None:
    """Without the rule at least one of its vectors fails."""
    assert rule.name in failures, "no result: is the source without the rule still Python?"
    assert failures[rule.name] is not None, f"none of {rule.vectors} needs this rule"


@every_rule
def test_rule_is_found(rule: Rule) -> None:
    """The rule stands in the source, once, and its vectors in the corpus."""
    spec = find_spec(rule.module)
    assert spec is not None
    assert spec.origin is not None
    rule.switch_off(Path(spec.origin).read_text("utf-8"))
    assert set(rule.vectors) <= REQUESTS.keys() | ANSWERS.keys()


def test_rules_are_many_and_apart() -> None:
    """Each has a name of its own."""
    assert len({rule.name for rule in RULES}) == len(RULES) >= 100
