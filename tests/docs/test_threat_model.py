"""The threat model names files that are there, and shows every threat it lists by one of them."""

from __future__ import annotations

import re
from typing import Final

from tests.deploy.manifests import ROOT

TEXT: Final = (ROOT / "THREAT_MODEL.md").read_text("utf-8")
ROW: Final = re.compile(r"(?m)^\| ([STRIDE ]+) \|(.*)\|(.*)\|(.*)\|$")
NAMED: Final = re.compile(r"`((?:tests|bench|sidecar|k8s|config|docs)/[^`]+)`")


def test_every_named_file_is_there() -> None:
    """What shows a mitigation can be looked at."""
    named = set(NAMED.findall(TEXT))
    assert len(named) > 40
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_every_threat_is_met_and_shown() -> None:
    """Each row says what is done, and where that is seen."""
    rows = ROW.findall(TEXT)
    assert len(rows) > 30
    for kinds, threat, mitigation, shown in rows:
        assert set(kinds.split()) <= set("STRIDE"), threat
        assert threat.strip()
        assert mitigation.strip()
        assert NAMED.search(shown), threat


def test_every_kind_of_threat_is_looked_for() -> None:
    """STRIDE, all six."""
    kinds = {kind for row in ROW.findall(TEXT) for kind in row[0].split()}
    assert kinds == set("STRIDE")
