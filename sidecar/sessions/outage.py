"""What a request gets when the shared store cannot answer: the four outage modes. Pure.

`strict` denies. `local` and `stale` allow what this process knows; `signature` also allows a valid
token that was not ended here. Anything unknown gets 503, or 401 from `local` in a confirmed outage:
after a failed look-up, or while the store is only slow, a retry may find the session, unless it was
ended here. A token that only the denylist can revoke needs no session, so `local` also allows it in
a confirmed outage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from sidecar.auth.decision import Allow, StaleCookie
from sidecar.auth.reason import Reason
from sidecar.auth.route_rule import Outage

if TYPE_CHECKING:
    from sidecar.auth.decision import Deny
    from sidecar.auth.gate import Gate
    from sidecar.auth.need_session import NeedSession
    from sidecar.auth.routes import Route
    from sidecar.sessions.store import SessionStore

_HEADER_LINES: Final = {mode: b"X-Auth-Degraded: %b\r\n" % mode.encode() for mode in Outage}


def decide(
    gate: Gate, store: SessionStore, route: Route, need: NeedSession, now: float
) -> Allow | Deny:
    """Decide by the route's outage mode. `Allow` then carries the header X-Auth-Degraded."""
    mode = route.outage
    if mode is Outage.STRICT:
        return gate.deny(Reason.STORE_UNAVAILABLE)
    if need.revocable is not None and store.revocations.is_revoked(need.revocable):
        return gate.deny(Reason.REVOKED)
    session = store.last_known(need.token_id)
    if session is not None:
        decision = gate.resume(route, need, session, now)
        if isinstance(decision, StaleCookie):  # an outage deletes no cookie
            decision = gate.deny(decision.reason)
    elif need.revocable is not None and need.verified is not None and _trusts(mode, store):
        decision = gate.trust(route, need.verified)
    elif mode is Outage.SIGNATURE and need.verified is not None:
        if _ended_here(need, store, now):
            return gate.deny(Reason.SESSION_MISSING)
        decision = gate.trust(route, need.verified)
    elif mode is Outage.LOCAL and (store.outage_confirmed or _ended_here(need, store, now)):
        return gate.deny(Reason.SESSION_MISSING)
    else:
        return gate.deny(Reason.STORE_UNAVAILABLE)
    if isinstance(decision, Allow):
        identity = decision.identity + _HEADER_LINES[mode]
        return replace(decision, identity=identity, degraded=True)
    return decision


def _ended_here(need: NeedSession, store: SessionStore, now: float) -> bool:
    """Whether this process knows that the token's session was ended. No retry will find it."""
    verified = need.verified
    return verified is not None and store.is_ended(verified.as_session(need.token_id, now))


def _trusts(mode: Outage, store: SessionStore) -> bool:
    """Whether the mode accepts a token that another pod may have revoked."""
    return mode is Outage.SIGNATURE or (mode is Outage.LOCAL and store.outage_confirmed)
