"""A decision that must wait: for the session in the store, or for the keys of an issuer.

Both run as a task of their exchange, which cancels it when the client disconnects. Decides nothing
itself, and must not know what follows from the decision.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Protocol

from sidecar.errors import StoreUnavailable
from sidecar.sessions import outage
from sidecar.sessions.check import authenticate, look_up

if TYPE_CHECKING:
    import asyncio

    from sidecar.auth.decision import Allow, Deny
    from sidecar.auth.need_session import NeedSession
    from sidecar.auth.routes import Route
    from sidecar.issuers.key_waiters import KeyWaiters
    from sidecar.proxy.context import DataPlaneContext
    from sidecar.wire.head import RequestHead


class WaitingExchange(Protocol):
    """An exchange whose decision must wait."""

    context: DataPlaneContext
    head: RequestHead
    asked: RequestHead | None  # what is decided on, where that is not `head`

    @property
    def caller(self) -> str:
        """The client's address, as far as limits are concerned."""

    def on_decided(self, decision: Allow | Deny) -> None:
        """The decision that this request waited for."""


async def look_up_session(exchange: WaitingExchange, route: Route, need: NeedSession) -> None:
    """Ask the store, then decide; if it cannot answer, the route's outage mode decides."""
    context = exchange.context
    try:
        session = await look_up(context.store, need)
    except StoreUnavailable:
        decision = outage.decide(context.gate, context.store, route, need, time())
    else:
        decision = context.gate.resume(route, need, session, time())
    exchange.on_decided(decision)


async def wait_for_keys(
    exchange: WaitingExchange, route: Route, keys: KeyWaiters, fetched: asyncio.Event
) -> None:
    """Wait until the keys are `fetched`, then decide again from the start."""
    context, asked = exchange.context, exchange.asked or exchange.head
    await keys.wait(fetched, exchange.caller)
    exchange.on_decided(await authenticate(context.gate, context.store, route, asked, time()))
