"""The control plane: login, refresh, logout, sessions and keys, as one aiohttp application.

Only the data plane reaches it, so the forwarded headers can be trusted. Owns the routes; each
handler is in a module of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from sidecar.api import cors, jwks, login, logout, refresh, userinfo
from sidecar.api.listing_queue import LISTING_QUEUE, ListingQueue
from sidecar.api.pages import sign_in_path
from sidecar.api.problems import SIGN_IN, problem_middleware
from sidecar.api.requests import BODY_LIMIT
from sidecar.api.services import SERVICES

if TYPE_CHECKING:
    from sidecar.api.services import Services
    from sidecar.telemetry.metrics import Metrics


def build_api(services: Services) -> web.Application:
    """The control plane's application. Its handlers find their services under one key.

    `api.serving` runs it.
    """
    middlewares = [problem_middleware, cors.answer_preflights]
    app = web.Application(middlewares=middlewares, client_max_size=BODY_LIMIT)
    app.on_response_prepare.append(cors.add_headers)
    app[SERVICES] = services
    app[LISTING_QUEUE] = ListingQueue()
    prefix, router = services.auth_prefix, app.router
    sign_in = app[SIGN_IN] = sign_in_path(prefix)
    router.add_get(sign_in, login.show_login)
    router.add_post(sign_in, login.log_in)
    router.add_post(f"{prefix}/refresh", refresh.refresh)
    router.add_post(f"{prefix}/logout", logout.log_out)
    router.add_get(f"{prefix}/userinfo", userinfo.show_user)
    router.add_get(f"{prefix}/sessions", userinfo.list_sessions)
    router.add_delete(f"{prefix}/sessions/{{sid}}", userinfo.end_session)
    router.add_get("/.well-known/jwks.json", jwks.show_keys)
    _start_at_zero(services.metrics)
    return app


def _start_at_zero(metrics: Metrics) -> None:
    """Make every series of logins: a counter that first appears with 1 shows no increase."""
    for method in login.Method:
        for result in login.Result:
            metrics.logins.setdefault((method, result), 0)
    for outcome in refresh.Result:
        metrics.logins.setdefault((refresh.METHOD, outcome), 0)
