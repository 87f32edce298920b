"""Authenticates callers: the gate's decision for handlers that need a user; denials as refusals.

The route table lets everyone reach the control plane, so its handlers check credentials here.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from sidecar.api.audit import identify
from sidecar.api.problems import RETRY_AFTER, STORE_UNREACHABLE, Refusal, request_id
from sidecar.api.requests import client_of, request_head
from sidecar.api.services import SERVICES
from sidecar.auth.decision import Deny, NeedKeys
from sidecar.auth.route_rule import Access, Outage
from sidecar.auth.routes import Route
from sidecar.sessions.check import authenticate

if TYPE_CHECKING:
    from aiohttp import web

    from sidecar.auth.decision import Allow
    from sidecar.auth.reason import Reason

logger = logging.getLogger(__name__)

# Outage.STALE: during an outage an unknown caller gets 503 and can retry, instead of a 401.
_REQUIRED: Final = Route("control", Access.REQUIRED, outage=Outage.STALE)
_OPTIONAL: Final = Route("control", Access.OPTIONAL, outage=Outage.STALE)
_DETAILS: Final = {
    400: "The request's credentials are malformed, or there are several.",
    401: "Valid credentials are required.",
    403: "The request came from another site.",
    503: STORE_UNREACHABLE,
}


async def require_caller(request: web.Request) -> Allow:
    """The caller, who has a live session. Raises Refusal if there is none."""
    decision = await _decide(request, _REQUIRED)
    if isinstance(decision, Deny):
        raise denied(request, decision.reason)
    identify(request, decision.subject, issuer=decision.issuer, sid=decision.session_id)
    return decision


async def find_subject(request: web.Request) -> str:
    """The subject who is signed in, or an empty text; for pages that also work without a user."""
    decision = await _decide(request, _OPTIONAL)
    if isinstance(decision, Deny):
        return ""
    if decision.subject:
        identify(request, decision.subject, issuer=decision.issuer, sid=decision.session_id)
    return decision.subject


async def wait_for_keys(request: web.Request, issuer: str) -> bool:
    """Wait for the keys of a token's issuer. False if no fetch of them can be waited for."""
    services = request.app[SERVICES]
    fetched = None if services.keys is None else services.keys.request(issuer)
    if services.keys is None or fetched is None:
        return False
    await services.keys.wait(fetched, client_of(request).address)
    return True


def denied(request: web.Request, reason: Reason) -> Refusal:
    """The refusal for a denial. Only the metric and the log show its precise reason."""
    services = request.app[SERVICES]
    services.metrics.denied[reason.label] += 1
    extra = {
        "reason": reason.label,
        "client": client_of(request).address,
        "request_id": request_id(request),
    }
    logger.info("denied", extra=extra)
    headers = {}
    challenge = services.gate.deny(reason).challenge
    if challenge is not None:
        headers["WWW-Authenticate"] = challenge.decode("ascii")
    if reason.status == 503:
        headers["Retry-After"] = RETRY_AFTER
    return Refusal(reason.status, _DETAILS[reason.status], headers=headers)


async def _decide(request: web.Request, route: Route) -> Allow | Deny:
    services = request.app[SERVICES]
    head = request_head(request)
    decision = await authenticate(services.gate, services.store, route, head, services.clock())
    if isinstance(decision, NeedKeys) and await wait_for_keys(request, decision.issuer):
        return await authenticate(services.gate, services.store, route, head, services.clock())
    return decision
