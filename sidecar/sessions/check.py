"""Combines the gate and the store into one request's decision.

Decides nothing itself and knows no backend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.auth.need_session import NeedSession
from sidecar.errors import StoreUnavailable
from sidecar.sessions import outage

if TYPE_CHECKING:
    from sidecar.auth.decision import Allow, Deny
    from sidecar.auth.gate import Gate
    from sidecar.auth.routes import Route
    from sidecar.auth.session import Session
    from sidecar.sessions.store import SessionStore
    from sidecar.wire.head import RequestHead


async def authenticate(
    gate: Gate, store: SessionStore, route: Route, head: RequestHead, now: float
) -> Allow | Deny:
    """Decide a request. If the store cannot answer, the route's outage mode decides."""
    need = gate.decide(route, head, now)
    if not isinstance(need, NeedSession):
        return need
    try:
        session = await look_up(store, need)
    except StoreUnavailable:
        return outage.decide(gate, store, route, need, now)
    return gate.resume(route, need, session, now)


async def look_up(store: SessionStore, need: NeedSession) -> Session | None:
    """The stored session, or for a token on which the denylist decides, the session of its claims.

    None means that there is no session, or that the token is revoked. Raises StoreUnavailable.
    """
    if need.revocable is None:
        return await store.get(need.token_id)
    return await store.revocations.get(need.revocable)
