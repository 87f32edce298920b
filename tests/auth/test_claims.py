"""Roles and scopes, in the shapes that issuers give them."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.auth.claims import roles_of, scopes_of


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
    """Roles are a list of texts, or one text."""
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
    """Scopes are a text separated by spaces or a list, under one of three names."""
    assert scopes_of(claims) == scopes
