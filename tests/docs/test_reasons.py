"""The manual explains each word that an operator may find in the logs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from sidecar.errors import Malformed
from sidecar.telemetry.audit import Event
from tests.deploy.manifests import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable


@pytest.mark.parametrize(
    ("heading", "words"),
    [pytest.param("Malformed requests", Malformed), pytest.param("Logs", Event)],
)
def test_the_manual_explains_the_words(heading: str, words: Iterable[str]) -> None:
    """The table under this heading has every word, and no other."""
    text = (ROOT / "docs" / "operating.md").read_text("utf-8")
    section = text.partition(f"\n### {heading}\n")[2].partition("\n### ")[0]
    cells = re.findall(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \|", section, re.MULTILINE)
    found = [word for cell in cells for word in re.findall(r"[a-z_]+", cell)]
    assert sorted(found) == sorted(words)
