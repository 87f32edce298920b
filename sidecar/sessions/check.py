"""The gate and the store brought together: one request's decision, whatever that takes.

Decides nothing itself and knows no backend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.auth.gate import NeedSession
from sidecar.errors import StoreUnavailable
from sidecar.sessions import outage

if TYPE_CHECKING:
    from sidecar.auth.gate import Allow, Deny, Gate
    from sidecar.auth.routes import Route
    from sidecar.auth.session import Session
    from sidecar.sessions.store import SessionStore
    from sidecar.wire.head import RequestHead


async def authenticate(
    gate: Gate, store: SessionStore, route: Route, head: RequestHead, now: float
) -> Allow | Deny:
    """Allow or Deny; if the store cannot answer, by the route's outage mode."""
    need = gate.decide(route, head, now)
    if not isinstance(need, NeedSession):
        return need
    try:
        session = await look_up(store, need)
    except StoreUnavailable:
        return outage.decide(gate, store, route, need, now)
    return gate.resume(route, need, session, now)


async def look_up(store: SessionStore, need: NeedSession) -> Session | None:
    """The session that was asked for, or that of a token that is not denied; None: it is refused.

    Raises StoreUnavailable.
    """
    if need.revocable is None:
        return await store.get(need.token_id)
    return await store.revocations.get(need.revocable)
