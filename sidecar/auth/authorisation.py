"""Whether a known caller meets the rule of a route: its roles, scopes and claims. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.auth.claims import claim_matches
from sidecar.auth.reason import Reason

if TYPE_CHECKING:
    from sidecar.auth.decision import Allow, Deny
    from sidecar.auth.denials import Denials
    from sidecar.auth.routes import Route


def authorise(route: Route, allow: Allow, denials: Denials) -> Allow | Deny:
    """Check the caller's roles, scopes and claims against the route's requirement."""
    required = route.requirement
    if required.roles and required.roles.isdisjoint(allow.roles):
        return denials[Reason.ROLE].to(allow, route.name, *required.roles)
    if not required.scopes <= allow.scopes:
        lacking = required.scopes - allow.scopes
        return denials.scope(required.scopes).to(allow, route.name, *lacking)
    if required.claims:
        claims = allow.claims
        for path, accepted in required.claims:
            if not claim_matches(path.find(claims), accepted):
                return denials[Reason.CLAIM].to(allow, route.name, path.text)
    return allow
