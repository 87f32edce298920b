"""The form of a token's registered claims."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.auth.claim_checks import MAX_DATE, check_audience, check_names, is_date, is_text
from sidecar.auth.reason import Reason

APP = frozenset(("app", "api"))


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        pytest.param({"sub": "a"}, None, id="least"),
        pytest.param({"sub": "a", "sid": "b", "jti": "c"}, None, id="all"),
        pytest.param({"sid": "b"}, Reason.CLAIM_MISSING, id="no-subject"),
        pytest.param({"sub": None}, Reason.CLAIM_INVALID, id="null"),
        pytest.param({"sub": "a", "sid": ""}, Reason.CLAIM_INVALID, id="empty-sid"),
        pytest.param({"sub": "a", "jti": 7}, Reason.CLAIM_INVALID, id="number"),
    ],
)
def test_names(claims: dict[str, Any], reason: Reason | None) -> None:
    """A subject is required; session id and token id are texts if they are there."""
    assert check_names(claims) is reason


@pytest.mark.parametrize(
    ("claims", "accepted", "reason"),
    [
        pytest.param({"aud": "app"}, APP, None, id="text"),
        pytest.param({"aud": ["x", "api"]}, APP, None, id="one-of-a-list"),
        pytest.param({"aud": "App"}, APP, Reason.AUDIENCE, id="other-case"),
        pytest.param({"aud": []}, APP, Reason.AUDIENCE, id="empty-list"),
        pytest.param({}, APP, Reason.CLAIM_MISSING, id="missing"),
        pytest.param({"aud": ["app", 7]}, APP, Reason.CLAIM_INVALID, id="number-in-a-list"),
        pytest.param({"aud": None}, APP, Reason.CLAIM_INVALID, id="null"),
        pytest.param({"aud": "other"}, frozenset(), None, id="any"),
        pytest.param({}, frozenset(), None, id="none-if-any"),
        pytest.param({"aud": 7}, frozenset(), Reason.CLAIM_INVALID, id="form-even-if-any"),
    ],
)
def test_audience(claims: dict[str, Any], accepted: frozenset[str], reason: Reason | None) -> None:
    """One of the accepted audiences must be there; if all are accepted, the form still counts."""
    assert check_audience(claims, accepted) is reason


def test_texts() -> None:
    """A text is short and has no control characters."""
    assert all(map(is_text, ("a", " ", "é", "日" * 255)))
    assert not any(map(is_text, ("", "a\n", "\x7f", "\x85", "a" * 256, b"a", 7, None, ["a"])))


def test_dates() -> None:
    """A date is a number up to the year 9999."""
    assert all(map(is_date, (0, -1, 1.5, MAX_DATE, -MAX_DATE)))
    assert not any(map(is_date, (True, "1", None, MAX_DATE + 1, 1e300, float("nan"))))
