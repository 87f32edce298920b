"""What the control plane's handlers work with: one value under one key.

Holds collaborators and limits, decides nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

from sidecar.auth.session import SessionKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.api.passwords import PasswordChecker
    from sidecar.api.users import Users
    from sidecar.auth.gate import Gate
    from sidecar.auth.issue import Issuer
    from sidecar.auth.keys import Key
    from sidecar.auth.tokens import Verifier
    from sidecar.sessions.store import SessionStore
    from sidecar.telemetry.metrics import Metrics


@dataclass(slots=True)
class LiveConfig:
    """What a reload replaces, each as a whole; handlers read it anew for every request.

    `published_keys` are those whose public halves the JWKS shows: our own, never another issuer's.
    `redirect_origins` are as `redirects.parse_origin` gives them.
    """

    users: Users
    issuer: Issuer
    verifier: Verifier
    published_keys: tuple[Key, ...] = ()
    redirect_origins: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The collaborators of every handler.

    `refresh_grace` is in seconds, as is `longest`: what may live longer than a credential that is
    shown is denied for so long.
    """

    gate: Gate
    store: SessionStore
    current: LiveConfig
    passwords: PasswordChecker
    metrics: Metrics
    clock: Callable[[], float] = time.time
    session_cookie: str = "__Host-session"
    session_key: SessionKey = SessionKey.SHA256
    refresh_grace: float = 10.0
    longest: float = 7 * 86400.0
    on_unknown_key: Callable[[], None] | None = None  # told of a token that names one


SERVICES: Final[web.AppKey[Services]] = web.AppKey("services")
