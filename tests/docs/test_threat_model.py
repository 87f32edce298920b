"""The threat model names only existing files and tests, and a test for every threat it lists."""

from __future__ import annotations

import ast
import re
from functools import cache
from typing import Final

import pytest

from tests.deploy.manifests import ROOT

TEXT: Final = (ROOT / "THREAT_MODEL.md").read_text("utf-8")
ROW: Final = re.compile(r"(?m)^\| ([STRIDE ]+) \|(.*)\|(.*)\|(.*)\|$")
ROWS: Final = [tuple(cell.strip() for cell in row) for row in ROW.findall(TEXT)]
NAMED: Final = re.compile(r"`((?:tests|bench|sidecar|k8s|config|docs)/[^`:]+)(?:::([^`]*))?`")
WHOLE: Final = re.compile(r"`tests/(?:\w+/)*test_\w+\.py`")  # does not say which test


@cache
def functions_in(file: str) -> frozenset[str]:
    """The names of the test functions in a module."""
    found = ast.parse((ROOT / file).read_text("utf-8")).body
    functions = [each for each in found if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
    return frozenset(each.name for each in functions if each.name.startswith("test_"))


def test_every_named_file_is_there() -> None:
    """All files that the threat model names exist."""
    named = {file for file, _ in NAMED.findall(TEXT)}
    assert len(named) > 60
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_every_named_test_is_there() -> None:
    """All tests that the threat model names exist in the file that it gives."""
    named = {(file, test) for file, test in NAMED.findall(TEXT) if test}
    assert len(named) > 100
    assert [name for name in sorted(named) if name[1] not in functions_in(name[0])] == []


@pytest.mark.parametrize(
    ("kinds", "threat", "mitigation", "shown"), [pytest.param(*row, id=row[1]) for row in ROWS]
)
def test_every_threat_is_met_and_shown(
    kinds: str, threat: str, mitigation: str, shown: str
) -> None:
    """Each row has a mitigation and names one or two tests of it, never a whole file."""
    assert set(kinds.split()) <= set("STRIDE")
    assert threat
    assert mitigation
    assert 1 <= sum(bool(test) for _, test in NAMED.findall(shown)) <= 2
    assert not WHOLE.findall(shown)
    assert NAMED.sub("", shown).strip(", ") == ""


def test_every_part_has_its_threats() -> None:
    """Every table row is parsed, so the tests above leave none out."""
    parts = TEXT.partition("## Threats, part by part")[2].partition("## What remains")[0]
    lines = [line for line in parts.splitlines() if line.startswith("|")]
    assert len(lines) == len(ROWS) + 2 * parts.count("\n### ")
    assert len(ROWS) > 60


def test_every_kind_of_threat_is_looked_for() -> None:
    """All six kinds of STRIDE occur."""
    assert {kind for row in ROWS for kind in row[0].split()} == set("STRIDE")
