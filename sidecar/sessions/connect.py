"""Makes the Redis client as the sidecar needs it. Knows addresses and credentials, no sessions.

The library's defaults will not do: one command against a refused port fails after 3.6 s, against a
stopped server after 59 s.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from redis.asyncio import ConnectionPool, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from sidecar.errors import ConfigError, Problem
from sidecar.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio.connection import AbstractConnection

    OnConnect = Callable[[AbstractConnection], Awaitable[None]]

_NO_SECRET = Secret("")


@dataclass(frozen=True, slots=True)
class RedisConfig:
    """Where Redis is. `url` (redis, rediss, unix) takes the place of the rest where it says it.

    `timeout` is for connecting, in seconds; `ca_file` verifies the server's certificate, and on its
    own means TLS for a host.
    """

    url: Secret = _NO_SECRET
    host: str = "localhost"
    port: int = 6379
    username: str = ""
    password: Secret = _NO_SECRET
    db: int = 0
    ca_file: str = ""
    timeout: float = 0.1
    max_connections: int = 8


def tracked(config: RedisConfig, on_connect: OnConnect, max_connections: int) -> Redis | None:
    """A client of its own to the same place, whose every new connection `on_connect` greets.

    None where that is not to be had. Raises ConfigError.
    """

    async def greet(connection: AbstractConnection) -> None:
        await connection.on_connect()
        await on_connect(connection)

    return connect(replace(config, max_connections=max_connections), greet)


def connect(config: RedisConfig, greet: OnConnect | None = None) -> Redis:
    """A client; it connects when it is first used. Raises ConfigError, which shows no secret.

    `greet` takes the place of the library's own greeting of a new connection.
    """
    arguments: dict[str, Any] = {
        "db": config.db,
        "username": config.username or None,
        "password": config.password.reveal() or None,
        "max_connections": config.max_connections,
        "socket_connect_timeout": config.timeout,
        # `RedisLink` gives each operation one total deadline. A limit for each read on top would
        # add nothing to it but a task for each command: 160 µs of CPU become 250.
        "socket_timeout": None,
        "retry": Retry(NoBackoff(), 0),
        # With RESP 3 the library would not look whether a pooled connection is still in order.
        "protocol": 2,
        "driver_info": None,
    }
    if greet is not None:
        arguments["redis_connect_func"] = greet
    if config.ca_file:
        arguments["ssl_ca_certs"] = config.ca_file
    try:
        pool = _pool(config, arguments)
    except (ValueError, TypeError):
        # The library's message may quote the URL, and the password in it.
        expected = (
            "a URL such as redis://redis:6379/0, rediss://user@redis:6380, unix:///run/redis.sock"
        )
        raise ConfigError([Problem("REDIS_URL", expected)]) from None
    return Redis(connection_pool=pool)


def _pool(config: RedisConfig, arguments: dict[str, Any]) -> ConnectionPool:
    if not config.url:
        if config.ca_file:
            arguments["connection_class"] = SSLConnection
        return ConnectionPool(host=config.host, port=config.port, **arguments)
    url = config.url.reveal()
    if not url.startswith("rediss:"):
        arguments.pop("ssl_ca_certs", None)
    return ConnectionPool.from_url(url, **arguments)
