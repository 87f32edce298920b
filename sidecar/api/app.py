"""The control plane: login, refresh, logout, sessions and keys, as one aiohttp application.

Only the data plane reaches it, so the forwarded headers can be trusted. Owns the routes; each
handler is in a module of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from sidecar.api import cors, jwks, login, logout, refresh, userinfo
from sidecar.api.listing_queue import LISTING_QUEUE, ListingQueue
from sidecar.api.pages import SIGN_IN_PATH
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
    app[SIGN_IN] = SIGN_IN_PATH
    app.router.add_get(SIGN_IN_PATH, login.show_login)
    app.router.add_post(SIGN_IN_PATH, login.log_in)
    app.router.add_post("/auth/refresh", refresh.refresh)
    app.router.add_post("/auth/logout", logout.log_out)
    app.router.add_get("/auth/userinfo", userinfo.show_user)
    app.router.add_get("/auth/sessions", userinfo.list_sessions)
    app.router.add_delete("/auth/sessions/{sid}", userinfo.end_session)
    app.router.add_get("/.well-known/jwks.json", jwks.show_keys)
    _start_at_zero(services.metrics)
    return app


def _start_at_zero(metrics: Metrics) -> None:
    """Make every series of logins: a counter that first appears with 1 shows no increase."""
    for method in login.Method:
        for result in login.Result:
            metrics.logins.setdefault((method, result), 0)
    for outcome in refresh.Result:
        metrics.logins.setdefault((refresh.METHOD, outcome), 0)
