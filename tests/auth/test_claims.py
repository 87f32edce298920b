"""Roles and scopes, in the shapes in which issuers send them: the table in docs/providers.md."""

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
from sidecar.claim_path import ClaimPath

LISTED = [
    pytest.param([], (), id="none"),
    pytest.param(["b", "a"], ("b", "a"), id="in-order"),
    pytest.param(["a b", "c,d"], ("a b", "c,d"), id="a-text-in-a-list-is-one"),
    pytest.param(["/team/a", "/team"], ("/team/a", "/team"), id="group-paths"),
    pytest.param([1, 2.0, 1.5, -3], ("1", "2", "1.5", "-3"), id="numbers"),
    pytest.param([{"authority": "ROLE_USER"}], ("ROLE_USER",), id="spring"),
    pytest.param([{"value": "a", "display": "A"}], ("a",), id="scim"),
    pytest.param([{"id": 7, "name": "a"}, {"role": "b"}], ("a", "b"), id="named-objects"),
    pytest.param([{"name": 7}], ("7",), id="number-of-an-object"),
    pytest.param([{"authority": None, "name": "a"}], (), id="first-naming-member-counts"),
    pytest.param([{"admin": True}, {}, {"name": ["a"]}], (), id="objects-without-a-name"),
    pytest.param(["a", None, True, [["b"]], "", "c"], ("a", "c"), id="odd-items-are-left-out"),
    pytest.param(7, ("7",), id="number"),
    pytest.param(None, (), id="null"),
    pytest.param("", (), id="empty"),
    pytest.param(True, (), id="boolean"),
    pytest.param({"a": 1}, (), id="object"),
    pytest.param({"name": "a"}, (), id="object-with-a-name"),
]


@pytest.mark.parametrize(
    ("value", "roles"),
    [
        *LISTED,
        pytest.param("a", ("a",), id="text"),
        pytest.param(" b  a ", ("b", "a"), id="spaces"),
        pytest.param("b,a", ("b", "a"), id="commas"),
        pytest.param(", Domain Users ,,a", ("Domain Users", "a"), id="commas-before-spaces"),
    ],
)
def test_roles(value: object, roles: tuple[str, ...]) -> None:
    """Roles are read from every shape; one that is not in the manual gives none."""
    assert roles_of({"roles": value}) == roles
    assert roles_of({"at": {"x": value}}, [ClaimPath("at.x")]) == tuple(dict.fromkeys(roles))


@pytest.mark.parametrize(
    ("value", "scopes"),
    [
        *LISTED,
        pytest.param(" b  a ", ("b", "a"), id="text"),
        pytest.param("b,a c", ("b,a", "c"), id="a-comma-is-part-of-a-scope"),
    ],
)
def test_scopes(value: object, scopes: tuple[str, ...]) -> None:
    """Scopes are read from the same shapes, but only spaces separate those of a text."""
    assert scopes_of({"scope": value}) == scopes
    assert scopes_of({"at": {"x": value}}, [ClaimPath("at.x")]) == tuple(dict.fromkeys(scopes))


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        pytest.param({}, (), id="absent"),
        pytest.param({"scopes": ["b", "a"]}, ("b", "a"), id="scopes"),
        pytest.param({"scp": ["b"]}, ("b",), id="scp-list"),
        pytest.param({"scp": "b a"}, ("b", "a"), id="scp-text"),
        pytest.param({"scope": None, "scp": "a"}, ("a",), id="null-is-absent"),
        pytest.param({"scope": "", "scp": ["a"]}, ("a",), id="empty-is-absent"),
        pytest.param({"scope": [], "scopes": {"x": 1}, "scp": "a"}, ("a",), id="odd-is-absent"),
        pytest.param({"scope": "a", "scopes": ["b"], "scp": "c"}, ("a",), id="first-counts"),
        pytest.param({"scope": "", "scopes": [], "scp": ""}, (), id="all-empty"),
    ],
)
def test_names_of_scopes(claims: dict[str, Any], scopes: tuple[str, ...]) -> None:
    """The first of three names that has any scopes counts."""
    assert scopes_of(claims) == scopes


def test_several_paths() -> None:
    """The roles and scopes of all paths add up, each once; the usual names do not count then."""
    claims = {
        "realm_access": {"roles": ["user", "admin"]},
        "resource_access": {"shop": {"roles": ["buyer", "user"]}},
        "roles": ["other"],
        "scope": "openid",
        "permissions": ["read", "openid"],
    }
    paths = [ClaimPath("realm_access.roles"), ClaimPath("resource_access.shop.roles")]
    assert roles_of(claims, paths) == ("user", "admin", "buyer")
    assert roles_of(claims, [ClaimPath("absent")]) == ()
    assert scopes_of(claims, [ClaimPath("permissions")]) == ("read", "openid")
    assert scopes_of(claims, list(map(ClaimPath, ("scope", "permissions")))) == ("openid", "read")


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
    """Equal names give the same set object, unless it is large."""
    assert interned_set(("a", "b")) == {"a", "b"}
    assert interned_set(("a", "b")) is interned_set(("a", "b"))
    for large in (tuple(map(str, range(17))), ("a" * 513,)):
        assert interned_set(large) == set(large)
        assert interned_set(large) is not interned_set(large)


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
