"""Compares what two routes require: whether everyone who may use one may use the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.auth.credentials import Accepts
from sidecar.auth.route_rule import Access, Outage

if TYPE_CHECKING:
    from sidecar.auth.routes import Route

_STRICTNESS: Final = {Access.PUBLIC: 0, Access.OPTIONAL: 1, Access.REQUIRED: 2}
# How much each mode trusts while sessions cannot be looked up
_TRUST: Final = {Outage.STRICT: 0, Outage.STALE: 1, Outage.LOCAL: 1, Outage.SIGNATURE: 2}


def admits_no_more(found: Route, route: Route) -> bool:
    """Whether everyone who may use `found` may use `route`."""
    if _STRICTNESS[found.access] < _STRICTNESS[route.access]:
        return False
    if route.credentials not in {Accepts.ANY, found.credentials}:
        return False
    has, needs = found.requirement, route.requirement
    claims = dict(has.claims)
    return (
        (not needs.roles or (bool(has.roles) and has.roles <= needs.roles))
        and needs.scopes <= has.scopes
        and all(
            name in claims and all(value in accepted for value in claims[name])
            for name, accepted in needs.claims
        )
    )


def allows_no_more(found: Route, route: Route) -> bool:
    """Whether nothing is possible by `found` that is not possible by `route`.

    Beside who may use it, this is what a session is worth in an outage, whether preflights pass
    undecided, which upgrades are possible, and whether streams outlive their session.
    """
    return (
        admits_no_more(found, route)
        and (route.public or _TRUST[found.outage] <= _TRUST[route.outage])
        and (found.preflight is None or route.preflight is not None)
        and found.upgrades <= route.upgrades
        and (route.public or found.ends_live or not route.ends_live)
    )
