"""What users can see and do about themselves: who they are, their logins, and ending one of them.

Never shows or ends a login of another user.
"""

from __future__ import annotations

from contextlib import suppress
from math import isfinite
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aiohttp import web

from sidecar.api.audit import audit_request
from sidecar.api.callers import require_caller
from sidecar.api.cookies import clear_cache
from sidecar.api.listing_queue import LISTING_QUEUE
from sidecar.api.problems import Refusal, json_response
from sidecar.api.requests import request_head
from sidecar.api.services import SERVICES
from sidecar.auth.claims import ROLES, roles_of, scopes_of
from sidecar.auth.credentials import find_cookies
from sidecar.auth.issue import RESERVED
from sidecar.auth.session import SessionInfo
from sidecar.sessions.listing import PAGE, position_of
from sidecar.telemetry.audit import Event, Subject
from sidecar.telemetry.logs import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sidecar.auth.decision import Allow
    from sidecar.sessions.listing import Position


async def show_user(request: web.Request) -> web.Response:
    """The caller's subject, session, roles, scopes and every other claim about the user."""
    caller = await require_caller(request)
    claims = caller.claims
    return json_response(
        {
            "sub": caller.subject,
            "sid": caller.session_id,
            # In the order of the users file; where they are in other claims, their order is lost.
            "roles": roles_of(claims) if caller.local else sorted(caller.roles),
            "scopes": scopes_of(claims) if caller.local else sorted(caller.scopes),
            **_other(claims),
        }
    )


async def list_sessions(request: web.Request) -> web.Response:
    """A page of the caller's logins, newest first; `current` marks the one of this request.

    If more follow, the Link header (RFC 8288) has the address of the next page.
    """
    caller = await require_caller(request)
    after = _parse_cursor(request.query.get("cursor", ""))
    store, found = request.app[SERVICES].store, list[SessionInfo]()
    async with request.app[LISTING_QUEUE].turn(caller.subject):
        if await _has_login(caller, request):
            found = await store.sessions_of(caller.subject, after, PAGE + 1)
    headers = {}
    if len(found) > PAGE:
        found.remove(min(found, key=position_of))
        headers["Link"] = f'<{request.path}?cursor={_cursor(found)}>; rel="next"'
    page = {"sessions": [_session(info, caller.session_id) for info in found]}
    return json_response(page, headers=headers)


async def end_session(request: web.Request) -> web.Response:
    """End one of the caller's logins. 404 for a login of another user, as for an unknown one."""
    caller = await require_caller(request)
    services = request.app[SERVICES]
    sid = request.match_info["sid"]
    own = await _has_login(caller, request)
    if not own or await services.store.login_of(caller.subject, sid) is None:
        raise Refusal(404, "You have no such session.")
    await services.store.revoke_session(sid)
    ended = Subject(caller.subject, caller.issuer, sid)
    more = {"by": caller.session_id}
    audit_request(request, "session ended", Event.SESSION_ENDED, ended, more=more)
    response = web.Response(status=204)
    if sid == caller.session_id:
        clear_cache(response)
        cookie = request_head(request).cookie or b""
        if find_cookies(cookie, services.session_cookie.name.encode()):
            services.session_cookie.clear(response)
    return response


async def _has_login(caller: Allow, request: web.Request) -> bool:
    """Whether the login of this request is one of the caller's subject here.

    A user of another issuer has no logins here, but may have the subject and even the session id of
    a user here.
    """
    if not caller.local:
        return False
    store = request.app[SERVICES].store
    return await store.login_of(caller.subject, caller.session_id) is not None


def _cursor(page: Iterable[SessionInfo]) -> str:
    """The position that this page reaches, as a parameter of a URL."""
    expires, sid = min(map(position_of, page))
    return f"{expires!r}~{quote(sid, safe='')}"


def _parse_cursor(cursor: str) -> Position | None:
    """The position after which a page begins. Raises Refusal for a cursor that is not ours."""
    if not cursor:
        return None
    expires, _, sid = cursor.partition("~")
    with suppress(ValueError):
        if isfinite(position := float(expires)):
            return position, sid
    raise Refusal(400, "The cursor is not one of ours.")


def _session(info: SessionInfo, current: str) -> dict[str, Any]:
    return {
        "sid": info.sid,
        "created": rfc3339(info.created),
        "seen": rfc3339(info.seen),
        "expires": rfc3339(info.exp),
        "method": info.method,
        "user_agent": info.user_agent,
        "address": info.address,
        "current": info.sid == current,
    }


def _other(claims: Mapping[str, Any]) -> dict[str, Any]:
    """The claims about the user, without those about the token."""
    return {name: value for name, value in claims.items() if name not in RESERVED and name != ROLES}
