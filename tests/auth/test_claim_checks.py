"""The form of a token's registered claims."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.auth.claim_checks import (
    MAX_DATE,
    check_audience,
    check_ids,
    find_name,
    find_subject,
    is_date,
    is_text,
)
from sidecar.auth.reason import Reason
from sidecar.claim_path import ClaimPath

APP = frozenset(("app", "api"))


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({"sid": "b", "jti": "c"}, None, id="both"),
        pytest.param({"sid": ""}, Reason.CLAIM_INVALID, id="empty-sid"),
        pytest.param({"jti": 7}, Reason.CLAIM_INVALID, id="number"),
        pytest.param({"sid": None}, Reason.CLAIM_INVALID, id="null"),
    ],
)
def test_ids(claims: dict[str, Any], reason: Reason | None) -> None:
    """Session id and token id are texts if they are there."""
    assert check_ids(claims) is reason


@pytest.mark.parametrize(
    ("claims", "path", "subject"),
    [
        pytest.param({"sub": "a"}, None, "a", id="sub"),
        pytest.param({"oid": "a"}, None, Reason.CLAIM_MISSING, id="no-sub"),
        pytest.param({"sub": None}, None, Reason.CLAIM_INVALID, id="null-sub"),
        pytest.param({"sub": 7}, None, Reason.CLAIM_INVALID, id="number-as-sub"),
        pytest.param({"oid": "a", "sub": "b"}, "oid", "a", id="chosen"),
        pytest.param({"ids": {"x": 7}}, "ids.x", "7", id="chosen-number"),
        pytest.param({"sub": "b"}, "oid", Reason.CLAIM_MISSING, id="chosen-and-missing"),
        pytest.param({"oid": None, "sub": "b"}, "oid", Reason.CLAIM_MISSING, id="chosen-and-null"),
    ],
)
def test_subject(claims: dict[str, Any], path: str | None, subject: str | Reason) -> None:
    """The subject is in one place: without it there is none, whatever else the token has."""
    assert find_subject(claims, None if path is None else ClaimPath(path)) == subject


@pytest.mark.parametrize("value", ["", True, 7.0, ["a"], {"a": 1}, "a\nb", "x" * 256, 10**300])
def test_what_is_no_name(value: object) -> None:
    """Nothing but a text of 1 to 255 characters names a user, or for the subject a whole number."""
    claims, path = {"x": value}, ClaimPath("x")
    assert find_name(claims, path) is find_subject(claims, path) is Reason.CLAIM_INVALID
    assert find_name({"x": 7}, path) is Reason.CLAIM_INVALID


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


@pytest.mark.parametrize(
    ("claims", "accepted", "reason"),
    [
        pytest.param({"client_id": "app", "aud": "x"}, APP, None, id="there"),
        pytest.param({"client_id": ["x", "api"]}, APP, None, id="list"),
        pytest.param({"client_id": "x", "aud": "app"}, APP, Reason.AUDIENCE, id="not-in-aud"),
        pytest.param({"aud": "app"}, APP, Reason.CLAIM_MISSING, id="missing"),
        pytest.param({"client_id": None, "aud": "app"}, APP, Reason.CLAIM_MISSING, id="null"),
        pytest.param({"client_id": 7}, APP, Reason.CLAIM_INVALID, id="number"),
        pytest.param({}, frozenset(), None, id="none-if-any"),
    ],
)
def test_another_audience(
    claims: dict[str, Any], accepted: frozenset[str], reason: Reason | None
) -> None:
    """With a path, only the claim there says for whom a token is."""
    assert check_audience(claims, accepted, ClaimPath("client_id")) is reason


def test_texts() -> None:
    """A text is short and has no control characters."""
    assert all(map(is_text, ("a", " ", "é", "日" * 255)))
    assert not any(map(is_text, ("", "a\n", "\x7f", "\x85", "a" * 256, b"a", 7, None, ["a"])))


def test_dates() -> None:
    """A date is a number up to the year 9999."""
    assert all(map(is_date, (0, -1, 1.5, MAX_DATE, -MAX_DATE)))
    assert not any(map(is_date, (True, "1", None, MAX_DATE + 1, 1e300, float("nan"))))
