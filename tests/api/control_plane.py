"""A real control plane on a local store: real gate, keys, users and passwords, and a manual clock.

The users are `alice` (role user), `admin` (roles user and admin) and `gone` (disabled). The
password of each user is `pw-<name>`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, Final

import argon2

from sidecar.api.cookies import CookieForm
from sidecar.api.guesses import GuessDefence, GuessLimits
from sidecar.api.passwords import PasswordChecker
from sidecar.api.refresh_policy import RefreshPolicy
from sidecar.api.services import LiveConfig, Services
from sidecar.api.session_limit import SessionLimit
from sidecar.api.slow_lane import SlowLane
from sidecar.api.users import Users, parse_users
from sidecar.app.build.pages import make_sign_in_page
from sidecar.auth.gate import Gate
from sidecar.auth.identity import IdentityHeaders
from sidecar.auth.issue import Issuer
from sidecar.auth.keys import KeyRing
from sidecar.auth.session import SessionKey
from sidecar.auth.symmetric import secret_key
from sidecar.auth.tokens import REFRESH_TYPES, IssuerConfig, Verifier
from sidecar.secret import Secret
from sidecar.sessions.memory.local import LocalStore
from sidecar.settings import Settings
from sidecar.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import ClientResponse, web
    from aiohttp.test_utils import TestClient

    from sidecar.api.pages import SignInPage
    from sidecar.sessions.store import SessionStore

    Starter = Callable[..., Awaitable["Api"]]

ISSUER: Final = "auth-sidecar"
START: Final = 1_700_000_000.0
CHEAP: Final = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
BROWSER: Final = {
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "app.example",
    "X-Forwarded-For": "192.0.2.7, 10.0.0.1",
    "Accept": "text/html,application/xhtml+xml",
    "Origin": "https://app.example",
}


class Clock:
    """A clock that changes only when a test sets `now`."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the seconds since the epoch."""
        return self.now


def users_of(*disabled: str, roles: str = '["user"]') -> Users:
    """The users of the tests. `disabled` users are disabled as well; `roles` are those of alice."""
    tables = []
    for name, held in (("alice", roles), ("admin", '["user", "admin"]'), ("gone", "[]")):
        off = str(name == "gone" or name in disabled).lower()
        encoded = CHEAP.hash(f"pw-{name}")
        tables.append(
            f'[[user]]\nname = "{name}"\npassword_hash = "{encoded}"\nroles = {held}\n'
            f'scopes = ["read"]\nclaims = {{ email = "{name}@example.com" }}\ndisabled = {off}\n'
        )
    return parse_users("\n".join(tables), "users.toml")


@dataclass
class Config:
    """Holds the configuration in use, as the composition root does."""

    current: LiveConfig


@dataclass
class Api:
    """A running control plane, with shortcuts for requests to it."""

    client: TestClient[web.Request, Any]
    services: Services
    clock: Clock

    @property
    def store(self) -> SessionStore:
        """The store of the sessions."""
        return self.services.store

    @property
    def current(self) -> LiveConfig:
        """The settings that a reload replaces."""
        return self.services.config.current

    def change(self, **changed: Any) -> None:
        """Replace the configuration by one that differs in these fields, as a reload does."""
        config = self.services.config
        assert isinstance(config, Config)
        config.current = replace(config.current, **changed)

    def logins(self, method: str, result: str) -> int:
        """The number of logins counted with this method and result."""
        return self.services.metrics.logins[method, result]

    async def login(self, name: str = "alice") -> dict[str, Any]:
        """Log in with JSON and return the token response."""
        credentials = {"username": name, "password": f"pw-{name}"}
        answer = await self.client.post("/auth/login", json=credentials)
        assert answer.status == 200
        tokens: dict[str, Any] = await answer.json()
        return tokens

    async def cookie(self, name: str = "alice") -> str:
        """Log in with the form and return the value of the session cookie."""
        form = {"username": name, "password": f"pw-{name}"}
        answer = await self.client.post(
            "/auth/login", data=form, headers=BROWSER, allow_redirects=False
        )
        assert answer.status == 303
        return answer.cookies["__Host-session"].value

    async def refresh(self, token: str, **headers: str) -> ClientResponse:
        """Post a refresh token to the refresh endpoint."""
        return await self.client.post(
            "/auth/refresh", json={"refresh_token": token}, headers=headers
        )

    async def rotate(self, token: str) -> dict[str, Any]:
        """Let the time between two refreshes pass, refresh, and return the token response."""
        self.clock.now += self.current.refreshing.min_interval
        answer = await self.refresh(token)
        assert answer.status == 200
        tokens: dict[str, Any] = await answer.json()
        return tokens

    async def user_of(self, token: str) -> ClientResponse:
        """Request the user info of an access token."""
        return await self.client.get("/auth/userinfo", headers=bearer(token))

    async def is_live(self, token: str) -> bool:
        """Whether an access token is accepted."""
        return (await self.user_of(token)).status == 200


def bearer(token: str) -> dict[str, str]:
    """The Authorization header for a bearer token."""
    return {"Authorization": f"Bearer {token}"}


def with_cookie(value: str, **headers: str) -> dict[str, str]:
    """A browser's headers with the session cookie; `headers` are added or replace others."""
    return {**BROWSER, "Cookie": f"theme=dark; __Host-session={value}", **headers}


async def problem(answer: ClientResponse) -> dict[str, Any]:
    """The problem document of a response, after checking that it is one."""
    assert answer.content_type == "application/problem+json"
    document: dict[str, Any] = await answer.json(content_type=None)
    assert document["status"] == answer.status
    assert document["request_id"]
    return document


def sign_in_page() -> SignInPage:
    """The page of default settings."""
    return make_sign_in_page(Settings(jwt_secret=Secret(""), refresh_secret=Secret("")))


def make_services(clock: Clock, store: SessionStore | None = None, **changed: Any) -> Services:
    """Services made of real objects, except that password checks are cheap."""
    access = secret_key(ISSUER, b"an-access-secret-of-thirty-two-b")
    refreshing = secret_key(ISSUER, b"a-refresh-secret-of-thirty-two-b")
    verifier = Verifier(
        [IssuerConfig(issuer=ISSUER, audiences=frozenset({ISSUER}))],
        KeyRing([access]),
        IssuerConfig(issuer=ISSUER, audiences=frozenset({ISSUER}), types=REFRESH_TYPES),
        KeyRing([refreshing]),
    )
    issuer = Issuer(access, refreshing, issuer=ISSUER, audience=ISSUER, max_age=30 * 86400.0)
    services = Services(
        gate=Gate(verifier, IdentityHeaders()),
        store=LocalStore(clock) if store is None else store,
        config=Config(
            LiveConfig(
                users=users_of(),
                issuer=issuer,
                verifier=verifier,
                published_keys=(),
                redirect_origins=frozenset({"https://other.example"}),
                sign_in=sign_in_page(),
                refreshing=RefreshPolicy(),
                session_limit=SessionLimit(),
                trusted_proxies=(ip_network("10.0.0.0/8"),),
                guesses=GuessLimits(key=b"k"),
            )
        ),
        passwords=PasswordChecker(),
        guesses=GuessDefence(clock=clock),
        slow_lane=SlowLane(),
        metrics=Metrics(),
        auth_prefix="/auth",
        session_cookie=CookieForm("__Host-session"),
        session_key=SessionKey.SHA256,
        longest=7 * 86400.0,
        clock=clock,
    )
    return replace(services, **changed)
