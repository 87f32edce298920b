"""What a request gets while the shared store cannot be asked: the four modes. Decides, asks nobody.

`local` and `stale` trust what this process knows, `strict` nothing, `signature` also a good token
that nobody has ended here. They differ in what is not known: 401, or 503 and come back; a look-up
that failed while the store is in use (a hiccup, or none of its connections free) is none of their
business: what is not known then may be known in a moment. A token that counts unless it is denied
needs no session: `local` trusts it as `signature` does. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from sidecar.auth.gate import Allow
from sidecar.auth.reason import Reason
from sidecar.auth.routes import Outage

if TYPE_CHECKING:
    from sidecar.auth.gate import Deny, Gate, NeedSession
    from sidecar.auth.routes import Route
    from sidecar.sessions.store import SessionStore

_LINES: Final = {mode: b"X-Auth-Degraded: %b\r\n" % mode.encode() for mode in Outage}


def decide(
    gate: Gate, store: SessionStore, route: Route, need: NeedSession, now: float
) -> Allow | Deny:
    """The decision by the route's mode. What is allowed says so in a header of its identity."""
    mode = route.outage
    if mode is Outage.STRICT:
        return gate.deny(Reason.STORE_UNAVAILABLE)
    if need.revocable is not None and store.revocations.is_revoked(need.revocable):
        return gate.deny(Reason.REVOKED)
    session = store.known(need.token_id)
    if session is not None:
        decision = gate.resume(route, need, session, now)
    elif need.revocable is not None and need.verified is not None and _trusts(mode, store):
        decision = gate.trust(route, need.verified)
    elif mode is Outage.SIGNATURE and need.verified is not None:
        revocable = need.verified.as_session(need.token_id)
        if store.ended_here(revocable):
            return gate.deny(Reason.SESSION_MISSING)
        decision = gate.trust(route, need.verified)
    elif mode is Outage.LOCAL and store.degraded:
        return gate.deny(Reason.SESSION_MISSING)
    else:
        return gate.deny(Reason.STORE_UNAVAILABLE)
    if isinstance(decision, Allow):
        return replace(decision, identity=decision.identity + _LINES[mode])
    return decision


def _trusts(mode: Outage, store: SessionStore) -> bool:
    """Whether a token that may have been denied elsewhere is let in."""
    return mode is Outage.SIGNATURE or (mode is Outage.LOCAL and store.degraded)
