"""What tests of the data plane in memory share: its clock, turned by hand."""

from __future__ import annotations

import pytest

from tests.proxy_units.crank import Crank


@pytest.fixture
def crank(monkeypatch: pytest.MonkeyPatch) -> Crank:
    """A clock to turn."""
    return Crank(monkeypatch)
