"""What the handlers of the control plane work with, under one application key.

Holds collaborators, limits and the part that a reload replaces. Decides nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from aiohttp import web

from sidecar.auth.cors import NO_CORS
from sidecar.auth.password_logins import PasswordLogins

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecar.api.cookies import CookieForm
    from sidecar.api.guesses import GuessDefence, GuessLimits
    from sidecar.api.pages import SignInPage
    from sidecar.api.passwords import PasswordChecker
    from sidecar.api.refresh_policy import RefreshPolicy
    from sidecar.api.session_limit import SessionLimit
    from sidecar.api.slow_lane import SlowLane
    from sidecar.api.users import Users
    from sidecar.auth.cors import CorsPolicy
    from sidecar.auth.gate import Gate
    from sidecar.auth.issue import Issuer
    from sidecar.auth.keys import Key
    from sidecar.auth.session import SessionKey
    from sidecar.auth.tokens import Verifier
    from sidecar.issuers.key_waiters import KeyWaiters
    from sidecar.sessions.store import SessionStore
    from sidecar.telemetry.metrics import Metrics
    from sidecar.wire.client_address import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveConfig:
    """What a reload may change in the control plane: made by one function, replaced as a whole.

    `published_keys` are the sidecar's own keys whose public halves the JWKS shows, never those of
    another issuer. `redirect_origins` have the form that `redirects.parse_origin` returns.
    """

    users: Users
    issuer: Issuer
    verifier: Verifier
    published_keys: tuple[Key, ...]
    redirect_origins: frozenset[str]
    sign_in: SignInPage
    refreshing: RefreshPolicy
    session_limit: SessionLimit
    trusted_proxies: Sequence[Network]
    guesses: GuessLimits
    cors: CorsPolicy = NO_CORS

    @property
    def logins(self) -> PasswordLogins:
        """What the users file says now about the logins of its users."""
        users = self.users if self.users.configured else None
        return PasswordLogins(users, self.issuer.issuer)


class ConfigSource(Protocol):
    """Holds the configuration that is in use."""

    @property
    def current(self) -> LiveConfig:
        """The configuration now. A reload replaces it, so read it again after an `await`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The collaborators of every handler.

    `longest` is the longest lifetime of a credential in seconds: a revocation lasts that long if it
    concerns credentials other than the one that was shown.
    """

    gate: Gate
    store: SessionStore
    config: ConfigSource
    passwords: PasswordChecker
    guesses: GuessDefence
    slow_lane: SlowLane
    metrics: Metrics
    auth_prefix: str  # of the addresses of the control plane, such as "/auth"
    session_cookie: CookieForm
    session_key: SessionKey
    longest: float
    clock: Callable[[], float] = time.time
    keys: KeyWaiters | None = None  # fetches keys that tokens name and that are unknown


SERVICES: Final[web.AppKey[Services]] = web.AppKey("services")
