"""Roles and scopes, in the shapes in which issuers send them."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.auth.claims import (
    claim_matches,
    display_name,
    interned_set,
    roles_of,
    scopes_of,
)


@pytest.mark.parametrize(
    ("claims", "roles"),
    [
        pytest.param({}, (), id="absent"),
        pytest.param({"roles": None}, (), id="null"),
        pytest.param({"roles": []}, (), id="none"),
        pytest.param({"roles": ["b", "a"]}, ("b", "a"), id="in-order"),
        pytest.param({"roles": "a b,c"}, ("a b,c",), id="a-text-is-one-role"),
        pytest.param({"roles": {"a": 1}}, None, id="object"),
        pytest.param({"roles": 7}, None, id="number"),
        pytest.param({"roles": ["a", 7]}, None, id="number-among-them"),
    ],
)
def test_roles(claims: dict[str, Any], roles: tuple[str, ...] | None) -> None:
    """Roles are a list of strings, or one string."""
    assert roles_of(claims) == roles


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        pytest.param({}, (), id="absent"),
        pytest.param({"scope": ""}, (), id="empty"),
        pytest.param({"scope": " b  a "}, ("b", "a"), id="text"),
        pytest.param({"scope": ["b", "a"]}, ("b", "a"), id="list"),
        pytest.param({"scopes": ["b", "a"]}, ("b", "a"), id="scopes"),
        pytest.param({"scp": ["b"]}, ("b",), id="scp-list"),
        pytest.param({"scp": "b a"}, ("b", "a"), id="scp-text"),
        pytest.param({"scope": None, "scp": "a"}, ("a",), id="null-is-absent"),
        pytest.param({"scope": "a", "scopes": ["b"], "scp": "c"}, ("a",), id="first-counts"),
        pytest.param({"scope": "", "scopes": ["b"]}, (), id="first-counts-empty"),
        pytest.param({"scope": 7}, None, id="number"),
        pytest.param({"scope": ["a", None]}, None, id="null-among-them"),
    ],
)
def test_scopes(claims: dict[str, Any], scopes: tuple[str, ...] | None) -> None:
    """Scopes are a string separated by spaces or a list, under one of three names."""
    assert scopes_of(claims) == scopes


@pytest.mark.parametrize(
    ("value", "accepted", "matches"),
    [
        pytest.param("acme", ("acme", "initech"), True, id="equal"),
        pytest.param(["x", "acme"], ("acme",), True, id="in-a-list"),
        pytest.param("other", ("acme",), False, id="different"),
        pytest.param(None, ("acme",), False, id="absent"),
        pytest.param(2, (2.0,), True, id="equal-numbers"),
        pytest.param(True, (1,), False, id="true-is-not-1"),
        pytest.param(1, (True,), False, id="1-is-not-true"),
    ],
)
def test_claim_matches(value: object, accepted: tuple[str | float, ...], matches: bool) -> None:  # noqa: FBT001
    """A claim matches if it is or contains an accepted value of the same type."""
    assert claim_matches(value, accepted) is matches


def test_interned_set() -> None:
    """Equal names give the same set object."""
    assert interned_set(("a", "b")) == {"a", "b"}
    assert interned_set(("a", "b")) is interned_set(("a", "b"))


@pytest.mark.parametrize(
    ("claims", "user"),
    [
        pytest.param({}, "sub", id="subject"),
        pytest.param({"name": "n"}, "n", id="name"),
        pytest.param({"preferred_username": "p"}, "p", id="preferred"),
        pytest.param({"name": "n", "preferred_username": "p"}, "p", id="preferred-before-name"),
        pytest.param({"name": "", "preferred_username": ""}, "sub", id="empty"),
        pytest.param({"name": 7, "preferred_username": ["p"]}, "sub", id="other-types"),
    ],
)
def test_display_name(claims: dict[str, Any], user: str) -> None:
    """A user here is known by the name in the claims, or else by the subject."""
    assert display_name(claims, "sub") == user
