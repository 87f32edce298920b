"""The sidecar as a measured program: its configuration, its start and logins.

Owns its command line, users file and login. Must not import the `sidecar` package, because the
sidecar is measured as a process, like its peers.
"""

from __future__ import annotations

import functools
import http.client
import sys
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import argon2
import msgspec

from bench.certificate import unchecked_tls
from bench.children import PATIENCE, Child, StartError, free_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from bench.lab import Lab

USER = "alice"
OTHER_USER = "bob"
PASSWORD = "bench-alice"
MANY = 100  # users; a file of its own, because a user who vanishes from a file is logged out
PYTHON_MODULE = ("-m", "sidecar")
REDIS_SECONDS = 5.0  # for an answer of Redis: high, because all programs share the CPUs
DEFAULT_REDIS_SECONDS = 0.1  # the sidecar's own


@dataclass(frozen=True, slots=True)
class Started:
    """A sidecar that is listening."""

    child: Child
    port: int
    admin_port: int


@dataclass(frozen=True, slots=True)
class Special:
    """What a sidecar has beyond the template: options, and tables behind all options, as TOML."""

    options: tuple[str, ...] = ()
    tables: str = ""


def start(
    lab: Lab,
    name: str,
    *,
    redis: bool = False,
    redis_seconds: float = REDIS_SECONDS,
    redis_url: str = "",
    upstream_port: int | None = None,
    module: Sequence[str] = PYTHON_MODULE,
    runner: Sequence[str] = (),
    template: str = "sidecar.toml",
    users: Mapping[str, str] | None = None,
    max_sessions: int = 0,
    special: Special = Special(),
) -> Started:
    """Start a sidecar for `upstream_port` (default: the lab's); `module` may include a profiler.

    With `redis` it uses the lab's Redis, with `redis_url` that one; `redis_seconds` is how long an
    answer of either may take. `runner` is a command that runs the interpreter. `users` maps names
    to password hashes; by default there are `USER` and `OTHER_USER`, with cheap ones.
    `max_sessions` limits the logins of one user, 0: not at all.
    """
    if users is None:
        users = {name: cheap_hash() for name in (USER, OTHER_USER)}
    tables = [
        f'[[user]]\nname = "{name}"\npassword_hash = "{encoded}"\nroles = ["user"]\n'
        for name, encoded in users.items()
    ]
    file = lab.directory / ("users.toml" if len(users) < MANY else "many-users.toml")
    file.write_text("".join(tables))
    port, admin_port = free_port(), free_port()
    if redis:
        redis_url = f"redis://127.0.0.1:{lab.redis_port}/0"
    options = []
    if redis_url:
        options += [
            f'redis_url = "{redis_url}"',
            f'redis_timeout = "{round(redis_seconds * 1e3)}ms"',
        ]
    values = {
        "PORT": str(port),
        "ADMIN": str(admin_port),
        "UPSTREAM": str(upstream_port or lab.upstream_port),
        "STORE": "redis" if redis_url else "local",
        "USERS": str(file),
        "SESSIONS": str(max_sessions),
        "OPTIONS": "\n".join([*options, *special.options]),
        "TABLES": special.tables,
    }
    config = lab.fill(template, f"{name}.toml", values)
    env = {"JWT_SECRET": lab.secret, "REFRESH_SECRET": lab.refresh_secret}
    argv = [*runner, sys.executable, *module, "run", "--config", str(config)]
    child = lab.children.spawn(name, argv, env=env, cpu=lab.proxy_cpu)
    child.wait_listening(port)
    return Started(child, port, admin_port)


@functools.cache
def cheap_hash() -> str:
    """A hash of the password with low cost, so that logins affect neither RSS nor time.

    It is the same for every sidecar of a run: another one in a users file ends the user's logins.
    """
    hasher = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    return hasher.hash(PASSWORD)


def login(port: int) -> str:
    """Log in and return the access token. Raises StartError if the login fails."""
    (token,) = logins(port, 1)
    return token


def logins(port: int, number: int, user: str = USER) -> list[str]:
    """Log in this many times on one connection. Raises StartError if a login fails."""
    return [answer.access_token for answer in log_in(port, [user] * number)]


def log_in(port: int, users: Iterable[str], *, tls: bool = False) -> Iterator[LoginAnswer]:
    """Log these users in on one connection. Raises StartError if a login fails."""
    connection = connect(port, tls=tls)
    headers = {"Content-Type": "application/json"}
    with closing(connection):
        for user in users:
            try:
                connection.request("POST", "/auth/login", login_body(user), headers)
                response = connection.getresponse()
                answer = response.read()
            except OSError as error:
                raise StartError(f"login at the sidecar failed: {error}") from error
            if response.status != 200:
                msg = f"login at the sidecar got status {response.status}: {answer[:200]!r}"
                raise StartError(msg)
            yield msgspec.json.decode(answer, type=LoginAnswer)


def login_body(user: str) -> bytes:
    """The body of a login."""
    return msgspec.json.encode({"username": user, "password": PASSWORD})


def refresh_body(refresh_token: str) -> bytes:
    """The body of a refresh."""
    return msgspec.json.encode({"refresh_token": refresh_token})


def connect(port: int, *, tls: bool) -> http.client.HTTPConnection:
    """A connection to a local port, whatever its certificate is."""
    if not tls:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE, context=unchecked_tls())


def metric(started: Started, name: str) -> float | None:
    """The sidecar's metric with this name and labels, or None if there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", started.admin_port, timeout=PATIENCE)
    try:
        connection.request("GET", "/metrics")
        return metric_in(connection.getresponse().read().decode(), name)
    finally:
        connection.close()


def metric_in(text: str, name: str) -> float | None:
    """The sample with this name and labels in Prometheus' text format, or None."""
    for line in text.splitlines():
        found, _, value = line.rpartition(" ")
        if found == name:
            return float(value)
    return None


class LoginAnswer(msgspec.Struct):
    """The part of the response to a login or refresh that is used here."""

    access_token: str
    refresh_token: str
