"""What users can see and do about themselves: who they are, their logins, and ending one of them.

Never shows or ends a login of another user.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from aiohttp import web

from sidecar.api.callers import require_caller
from sidecar.api.cookies import clear_cache, clear_session_cookie
from sidecar.api.problems import Refusal, json_response, request_id
from sidecar.api.requests import request_head
from sidecar.api.services import SERVICES
from sidecar.auth.claims import ROLES, roles_of, scopes_of
from sidecar.auth.credentials import find_cookies
from sidecar.auth.issue import RESERVED
from sidecar.telemetry.logs import rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.auth.decision import Allow
    from sidecar.auth.session import SessionInfo

logger = logging.getLogger(__name__)


async def show_user(request: web.Request) -> web.Response:
    """The caller's subject, session, roles, scopes and every other claim about the user."""
    caller = await require_caller(request)
    return json_response(
        {
            "sub": caller.subject,
            "sid": caller.session_id,
            "roles": list(roles_of(caller.claims) or ()),
            "scopes": list(scopes_of(caller.claims) or ()),
            **_other(caller.claims),
        }
    )


async def list_sessions(request: web.Request) -> web.Response:
    """The caller's logins, newest first; `current` marks the one of this request."""
    caller = await require_caller(request)
    found = await _logins_of(caller, request)
    return json_response({"sessions": [_session(info, caller.session_id) for info in found]})


async def end_session(request: web.Request) -> web.Response:
    """End one of the caller's logins. 404 for a login of another user, as for an unknown one."""
    caller = await require_caller(request)
    services = request.app[SERVICES]
    sid = request.match_info["sid"]
    found = await _logins_of(caller, request)
    if sid not in {info.sid for info in found}:
        raise Refusal(404, "You have no such session.")
    await services.store.revoke_session(sid)
    logger.info("session ended", extra={"sid": sid, "request_id": request_id(request)})
    response = web.Response(status=204)
    if sid == caller.session_id:
        clear_cache(response)
        cookie = request_head(request).cookie or b""
        if find_cookies(cookie, services.session_cookie.encode()):
            clear_session_cookie(response, services.session_cookie)
    return response


async def _logins_of(caller: Allow, request: web.Request) -> list[SessionInfo]:
    """The logins of the caller's subject, if the login of this request is among them.

    A user of another issuer has no logins here, but may have the subject and even the session id of
    a user here.
    """
    if not caller.local:
        return []
    found = await request.app[SERVICES].store.sessions_of(caller.subject)
    return found if caller.session_id in {info.sid for info in found} else []


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
