"""The environment in which the commands run."""

from __future__ import annotations

from typing import Final

import pytest

from sidecar.settings.model import Settings, kinds_of

SECRETS: Final = {
    "JWT_SECRET": "access-secret-0123456789abcdefghijklmnop",
    "REFRESH_SECRET": "refresh-secret-0123456789abcdefghijklmn",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Set an environment with two valid secrets and no other setting."""
    for name in kinds_of(Settings):
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    return monkeypatch
