"""What a login draws at random."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.api.grants import new_login

if TYPE_CHECKING:
    import pytest


def test_a_session_id_is_no_option(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session id can be given to a command: it does not begin with a hyphen."""
    draws = iter(["-2hFvq0Nq3bQnZ8m4r1JpX", "--Fvq0Nq3bQnZ8m4r1JpXw", "2-Fvq0Nq3bQnZ8m4r1JpXw"])
    monkeypatch.setattr("secrets.token_urlsafe", lambda _: next(draws))
    assert new_login("alice", {}, 0.0).sid == "2-Fvq0Nq3bQnZ8m4r1JpXw"
