"""The comparison of two routes: who may use them, and what else they allow."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.auth.route_rule import Access, Outage, RouteRule
from sidecar.auth.routes import Route, RouteTable
from sidecar.auth.strictness import admits_no_more, allows_no_more


def route(**options: Any) -> Route:
    """Compile a route with these options."""
    return RouteTable([RouteRule(path="/x", **options)]).routes[0]


@pytest.mark.parametrize(
    ("found", "needed", "admits"),
    [
        pytest.param({}, {}, True, id="alike"),
        pytest.param({"access": Access.PUBLIC}, {}, False, id="public-for-required"),
        pytest.param({"access": Access.OPTIONAL}, {}, False, id="optional-for-required"),
        pytest.param({}, {"access": Access.PUBLIC}, True, id="required-for-public"),
        pytest.param({}, {"roles": ["r"]}, False, id="no-role"),
        pytest.param({"roles": ["r"]}, {}, True, id="a-role-more"),
        pytest.param({"roles": ["r"]}, {"roles": ["r", "s"]}, True, id="one-of-two-roles"),
        pytest.param({"roles": ["r", "s"]}, {"roles": ["r"]}, False, id="another-role"),
        pytest.param({"scopes": ["r"]}, {"scopes": ["r", "w"]}, False, id="fewer-scopes"),
        pytest.param({"scopes": ["r", "w"]}, {"scopes": ["r"]}, True, id="more-scopes"),
        pytest.param({"claims": {"t": [1]}}, {"claims": {"t": [1, 2]}}, True, id="fewer-values"),
        pytest.param({"claims": {"t": [1, 2]}}, {"claims": {"t": [1]}}, False, id="more-values"),
        pytest.param({"claims": {"u": [1]}}, {"claims": {"t": [1]}}, False, id="another-claim"),
    ],
)
def test_admits(found: dict[str, Any], needed: dict[str, Any], admits: bool) -> None:  # noqa: FBT001 (a table)
    """A route admits no more than another if each of its callers may use the other."""
    assert admits_no_more(route(**found), route(**needed)) is admits
    assert allows_no_more(route(**found), route(**needed)) is admits


@pytest.mark.parametrize(
    ("found", "needed", "allows"),
    [
        pytest.param({}, {"outage": Outage.STRICT}, False, id="outage"),
        pytest.param({"outage": Outage.STRICT}, {}, True, id="stricter-outage"),
        pytest.param({"outage": Outage.STALE}, {"outage": Outage.LOCAL}, True, id="same-trust"),
        pytest.param(
            {}, {"outage": Outage.STRICT, "access": Access.PUBLIC}, True, id="outage-of-public"
        ),
        pytest.param({"preflight": True}, {}, False, id="preflight"),
        pytest.param({"preflight": True}, {"preflight": True}, True, id="both-preflight"),
        pytest.param({}, {"upgrades": []}, False, id="upgrades"),
        pytest.param({"upgrades": []}, {}, True, id="no-upgrades"),
        pytest.param({"ends_live": False}, {}, False, id="streams"),
        pytest.param({"ends_live": False}, {"access": Access.PUBLIC}, True, id="public-streams"),
        pytest.param({}, {"ends_live": False}, True, id="streams-end"),
    ],
)
def test_allows(found: dict[str, Any], needed: dict[str, Any], allows: bool) -> None:  # noqa: FBT001 (a table)
    """Beside its callers, a route may be looser in what it does for them."""
    assert admits_no_more(route(**found), route(**needed))
    assert allows_no_more(route(**found), route(**needed)) is allows
