"""A whole sidecar in the test's event loop: local sessions, a known secret, cheap password hashes.

The users are `alice` (role user), `admin` (roles user, admin) and `scout` (scopes read, write),
unless a test brings others. Each password is `pw-<name>`. An error that reaches the loop fails the
test.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import hmac
import json
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import argon2

from sidecar.app.sidecar import Sidecar
from sidecar.settings import settings_from
from tests.peers.raw_client import RawClient, Response, build, connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence

    from sidecar.settings import Settings

SECRET: Final = "the-access-secret-of-the-tests-0123456789"
REFRESH_SECRET: Final = "the-refresh-secret-of-the-tests-987654321"
ISSUER: Final = "auth-sidecar"
PUBLIC: Final = ({"path": "/*", "access": "public"},)
CHEAP: Final = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@dataclass(frozen=True, slots=True)
class User:
    """One entry of the users file."""

    name: str
    roles: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    claims: tuple[tuple[str, str], ...] = ()
    disabled: bool = False
    other_password: str = ""

    @property
    def password(self) -> str:
        """The user's password."""
        return self.other_password or f"pw-{self.name}"

    def toml(self) -> str:
        """Return the user's TOML table."""
        table = {
            "name": self.name,
            "password_hash": _hash_of(self.password),
            "roles": list(self.roles),
            "scopes": list(self.scopes),
            "claims": dict(self.claims),
            "disabled": self.disabled,
        }
        return "[[user]]\n" + _table(table)


@functools.cache
def _hash_of(password: str) -> str:
    """Return one hash for each password, because another hash means another password."""
    return CHEAP.hash(password)


ALICE: Final = User("alice", roles=("user",), claims=(("email", "alice@example.org"),))
ADMIN: Final = User("admin", roles=("user", "admin"))
SCOUT: Final = User("scout", scopes=("read", "write"))


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a login."""

    access: str
    refresh: str


@dataclass(slots=True)
class Stack:
    """A running sidecar and ways to talk to it."""

    sidecar: Sidecar
    settings: Settings

    def __repr__(self) -> str:
        return f"<Stack {self.sidecar!r}>"

    @property
    def port(self) -> int:
        """The traffic port."""
        return self.sidecar.port

    @property
    def auth(self) -> str:
        """The path below which the sidecar's own endpoints are."""
        return self.settings.auth_prefix

    @property
    def url(self) -> str:
        """The base URL of the traffic port."""
        return f"http://127.0.0.1:{self.port}"

    def client(
        self, *, receive_buffer: int | None = None
    ) -> contextlib.AbstractAsyncContextManager[RawClient]:
        """Open a raw connection to the traffic port."""
        return connect(self.port, receive_buffer=receive_buffer)

    async def ask(self, request: bytes) -> Response:
        """Send one raw request on a new connection."""
        async with self.client() as client:
            return await client.ask(request)

    async def get(self, target: str, *lines: str, token: str | None = None) -> Response:
        """Send one GET on a new connection."""
        return await self.ask(build("GET", target, *lines, token=token))

    async def login(self, name: str = "alice") -> Tokens:
        """Log in as one of the users."""
        body = f'{{"username": "{name}", "password": "pw-{name}"}}'.encode()
        request = build("POST", f"{self.auth}/login", "Content-Type: application/json", body=body)
        answer = await self.ask(request)
        if answer.status != 200:
            raise AssertionError(f"login as {name}: {answer!r}")
        tokens = answer.json()
        return Tokens(tokens["access_token"], tokens["refresh_token"])

    async def logout(self, token: str) -> None:
        """End the session of this access token."""
        answer = await self.ask(build("POST", f"{self.auth}/logout", token=token, body=b""))
        if answer.status != 204:
            raise AssertionError(f"logout: {answer!r}")

    async def cookie(self, name: str = "alice") -> str:
        """Log in as a browser does; return `name=value` of the session cookie."""
        body = f"username={name}&password=pw-{name}".encode()
        origin = "Origin: http://sidecar.test"
        form = "Content-Type: application/x-www-form-urlencoded"
        answer = await self.ask(build("POST", f"{self.auth}/login", origin, form, body=body))
        if answer.status != 303:
            raise AssertionError(f"form login as {name}: {answer!r}")
        return answer.fields.one("set-cookie").decode().partition(";")[0]

    async def metric(self, sample: str) -> float:
        """Return one sample of /metrics by its full name with labels; 0 if it is missing."""
        async with connect(self.sidecar.admin_port) as client:
            text = (await client.ask(build("GET", "/metrics"))).body.decode()
        for line in text.splitlines():
            name, _, value = line.rpartition(" ")
            if name == sample:
                return float(value)
        return 0.0


def mint(
    subject: str = "alice",
    *,
    secret: str = SECRET,
    algorithm: str = "HS256",
    headers: Mapping[str, Any] | None = None,
    without: Iterable[str] = (),
    **claims: Any,
) -> str:
    """Create a token as the sidecar would, apart from the changes given."""
    now = int(time.time())
    payload: dict[str, Any] = {
        "iss": ISSUER,
        "aud": ISSUER,
        "sub": subject,
        "sid": uuid.uuid4().hex,
        "jti": uuid.uuid4().hex,
        "iat": now,
        "exp": now + 300,
        "client_id": ISSUER,
        **claims,
    }
    kept = {name: value for name, value in payload.items() if name not in set(without)}
    head = {"alg": algorithm, "typ": "at+jwt", **(headers or {})}
    signed = f"{_segment(head)}.{_segment(kept)}"
    if algorithm == "none":
        return f"{signed}."
    # Built by hand, because a JWT library refuses to write much of what the tests need.
    digest = hmac.digest(secret.encode(), signed.encode(), f"sha{algorithm.removeprefix('HS')}")
    return f"{signed}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def _segment(table: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(table).encode()).decode().rstrip("=")


def _table(table: Mapping[str, Any]) -> str:
    """Return the lines of a TOML table; JSON's texts, numbers, booleans and lists are TOML."""
    lines = []
    for name, value in table.items():
        written = (
            "{" + ", ".join(f"{json.dumps(k)} = {json.dumps(v)}" for k, v in value.items()) + "}"
            if isinstance(value, dict)
            else json.dumps(value)
        )
        lines.append(f"{json.dumps(name)} = {written}\n")
    return "".join(lines)


def configure(
    folder: Path,
    upstream_url: str,
    *,
    routes: Sequence[Mapping[str, Any]] = (),
    users: Sequence[User] = (ALICE, ADMIN, SCOUT),
    **changed: Any,
) -> Settings:
    """Write the settings to files in `folder`, as a user would, and read them."""
    (folder / "users.toml").write_text("\n".join(user.toml() for user in users))
    plain = {
        "listen": "127.0.0.1:0",
        "admin_listen": "127.0.0.1:0",
        "upstream_url": upstream_url,
        "jwt_secret": SECRET,
        "refresh_secret": REFRESH_SECRET,
        "session_store": "local",
        "users_file": str(folder / "users.toml"),
        **changed,
    }
    tables = [_table(plain)] + ["[[route]]\n" + _table(route) for route in routes]
    (folder / "sidecar.toml").write_text("\n".join(tables))
    return settings_from(env={}, file=folder / "sidecar.toml")


@contextlib.asynccontextmanager
async def stack(
    upstream_url: str,
    *,
    routes: Sequence[Mapping[str, Any]] = (),
    users: Sequence[User] = (ALICE, ADMIN, SCOUT),
    **changed: Any,
) -> AsyncIterator[Stack]:
    """Run a sidecar in front of this upstream; `changed` are settings as named in the file."""
    with tempfile.TemporaryDirectory() as folder:
        settings = configure(Path(folder), upstream_url, routes=routes, users=users, **changed)
        sidecar = Sidecar(settings)
        with loop_faults() as faults:
            await sidecar.start()
            try:
                yield Stack(sidecar, settings)
            finally:
                await sidecar.stop()
                await asyncio.sleep(0)
        if faults:
            raise AssertionError(f"errors reached the loop: {faults}")


@contextlib.contextmanager
def loop_faults() -> Iterator[list[Mapping[str, Any]]]:
    """Collect the errors that the event loop would otherwise only log."""
    faults: list[Mapping[str, Any]] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: faults.append(context))
    try:
        yield faults
    finally:
        loop.set_exception_handler(before)
