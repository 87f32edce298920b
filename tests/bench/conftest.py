"""What the tests with real proxies need."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import PATH

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let programs be found where the command line of the suite finds them."""
    monkeypatch.setenv("PATH", PATH)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that nginx's worker, which is another user, may read; `tmp_path` is private."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        yield Path(name)
