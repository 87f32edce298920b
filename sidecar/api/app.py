"""The control plane: login, refresh, logout, sessions and keys, as one aiohttp application.

Reached through the data plane alone, which vouches for the forwarded headers. Owns the routes; the
handlers have a module each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from sidecar.api import jwks, login, logout, refresh, userinfo
from sidecar.api.problems import SIGN_IN, problem_middleware
from sidecar.api.requests import BODY_LIMIT
from sidecar.api.services import SERVICES

if TYPE_CHECKING:
    from sidecar.api.services import Services
    from sidecar.telemetry.metrics import Metrics


def build_api(services: Services) -> web.Application:
    """The control plane's application. Its handlers find everything they need under one key.

    Run it without aiohttp's access log, whose lines show queries, and with `auto_decompress=False`:
    what is packed is refused, and aiohttp would unpack it before anybody is asked.
    """
    app = web.Application(middlewares=[problem_middleware], client_max_size=BODY_LIMIT)
    app[SERVICES] = services
    app[SIGN_IN] = "/auth/login"
    app.router.add_get("/auth/login", login.show_login)
    app.router.add_post("/auth/login", login.log_in)
    app.router.add_post("/auth/refresh", refresh.refresh)
    app.router.add_post("/auth/logout", logout.log_out)
    app.router.add_get("/auth/userinfo", userinfo.show_user)
    app.router.add_get("/auth/sessions", userinfo.list_sessions)
    app.router.add_delete("/auth/sessions/{sid}", userinfo.end_session)
    app.router.add_get("/.well-known/jwks.json", jwks.show_keys)
    _begin_at_zero(services.metrics)
    return app


def _begin_at_zero(metrics: Metrics) -> None:
    """Let every series of logins exist: a counter that first appears with 1 shows no increase."""
    for method in login.Method:
        for result in login.Result:
            metrics.logins.setdefault((method, result), 0)
    for outcome in refresh.Result:
        metrics.logins.setdefault((refresh.METHOD, outcome), 0)
