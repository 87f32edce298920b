"""Makes the Redis client as the sidecar needs it. Knows addresses and credentials, no sessions.

The library's defaults will not do: one command against a refused port fails after 3.6 s, against a
stopped server after 59 s.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis, SSLConnection
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

from sidecar.errors import ConfigError, Problem
from sidecar.secret import Secret
from sidecar.sessions.redis.credentials import PasswordFile

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from redis.asyncio.connection import AbstractConnection

    OnConnect = Callable[[AbstractConnection], Awaitable[None]]
    Connect = Callable[[OnConnect, int], Redis]

_NO_SECRET = Secret("")


@dataclass(frozen=True, slots=True)
class RedisConfig:
    """Where Redis is. `url` (redis, rediss, unix) takes the place of the rest where it says it.

    `redis+sentinel://` and `rediss+sentinel://` name sentinels, a service and a database, as in
    `redis+sentinel://one:26379,two:26379/mymaster/0`; `redis+cluster://` and `rediss+cluster://`
    name some of a cluster's nodes. `timeout` is for connecting, in seconds;
    `ca_file` verifies the server's certificate, and on its own means TLS for a host; `cert_file`
    and `key_file` are what the server may want to see. `read_password` gives the password of the
    moment.
    """

    url: Secret = _NO_SECRET
    host: str = "localhost"
    port: int = 6379
    username: str = ""
    password: Secret = _NO_SECRET
    db: int = 0
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    read_password: Callable[[], Secret] | None = field(default=None, repr=False)
    timeout: float = 0.1
    max_connections: int = 8


def tracked(config: RedisConfig) -> Connect | None:
    """Makes clients to the same place, whose every new connection is greeted by who asks for them.

    None for a cluster: its every node would have to be followed.
    """
    if "+cluster:" in config.url.reveal():
        return None

    def connect_tracked(on_connect: OnConnect, max_connections: int) -> Redis:
        async def greet(connection: AbstractConnection) -> None:
            await connection.on_connect()
            await on_connect(connection)

        return connect(replace(config, max_connections=max_connections), greet)

    return connect_tracked


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
    if config.read_password is not None and "@" not in config.url.reveal():
        del arguments["username"], arguments["password"]
        arguments["credential_provider"] = PasswordFile(
            config.read_password, config.username, config.password
        )
    try:
        if "+cluster:" in config.url.reveal():
            return cast("Redis", _cluster(config, arguments))  # in all that is used of it here
        return Redis.from_pool(_pool(config, arguments))
    except (ValueError, TypeError):
        # The library's message may quote the URL, and the password in it.
        expected = (
            "a URL such as redis://redis:6379/0, rediss://user@redis:6380, unix:///run/redis.sock,"
            " redis+sentinel://one:26379,two:26379/mymaster/0, redis+cluster://one:6379,two:6379"
        )
        raise ConfigError([Problem("REDIS_URL", expected)]) from None


def _pool(config: RedisConfig, arguments: dict[str, Any]) -> ConnectionPool:
    """Who finds no connection free waits for one, as long as the deadline of its work lets it."""
    url = config.url.reveal()
    tls = _tls(config)
    arguments["timeout"] = None
    if not url:
        if tls:
            arguments |= {"connection_class": SSLConnection, **tls}
        return BlockingConnectionPool(host=config.host, port=config.port, **arguments)
    if "+sentinel:" in url:
        return _sentinel_pool(url, arguments, tls)
    if url.startswith("rediss:"):
        arguments |= tls
    return BlockingConnectionPool.from_url(url, **arguments)


def _tls(config: RedisConfig) -> dict[str, Any]:
    files = {
        "ssl_ca_certs": config.ca_file,
        "ssl_certfile": config.cert_file,
        "ssl_keyfile": config.key_file,
    }
    return {name: file for name, file in files.items() if file}


def _hosts(
    url: str, port: int, arguments: dict[str, Any]
) -> tuple[list[tuple[str, int]], list[str], bool]:
    """A URL's hosts, the parts of its path, and whether it means TLS. Raises ValueError.

    Who is to be logged in goes into `arguments`.
    """
    parts = urlsplit(url)
    user, _, hosts = parts.netloc.rpartition("@")
    if user:
        name, _, password = user.partition(":")
        arguments |= {"username": unquote(name) or None, "password": unquote(password) or None}
    names = [urlsplit(f"//{each}") for each in hosts.split(",")]
    if not all(each.hostname for each in names):
        raise ValueError("no host")
    found = [(each.hostname or "", each.port or port) for each in names]
    return found, parts.path.strip("/").split("/"), parts.scheme.startswith("rediss")


class _Cluster(RedisCluster):
    """The library's own takes no MGET of keys in different slots."""

    async def mget(self, keys: Any, *args: Any) -> list[Any]:
        """The values, each slot's for itself: no two of ours need be of one moment."""
        return await self.mget_nonatomic(keys, *args)


def _cluster(config: RedisConfig, arguments: dict[str, Any]) -> RedisCluster:
    """Finds out by itself which node has which keys. Raises ValueError."""
    hosts, _, secured = _hosts(config.url.reveal(), 6379, arguments)
    return _Cluster(
        startup_nodes=[ClusterNode(*each) for each in hosts],
        **arguments,
        **({"ssl": True, **_tls(config)} if secured else {}),
    )


def _sentinel_pool(
    url: str, arguments: dict[str, Any], tls: Mapping[str, str]
) -> SentinelConnectionPool:
    """Asks the sentinels for the master each time it connects. Raises ValueError."""
    hosts, (service, *db), secured = _hosts(url, 26379, arguments)
    if not service:
        raise ValueError("no service")
    if db:
        arguments["db"] = int(db[0])
    common = {"socket_connect_timeout": arguments["socket_connect_timeout"], "protocol": 2}
    common |= {"retry": Retry(NoBackoff(), 0), "driver_info": None}
    if secured:
        common |= {"ssl": True, **tls}
    sentinels = Sentinel(  # type: ignore[no-untyped-call]  # redis-py's gap
        hosts,
        # A sentinel that does not answer must not use up the time that the others have.
        sentinel_kwargs={**common, "socket_timeout": arguments["socket_connect_timeout"]},
    )
    return _MasterPool(  # type: ignore[no-untyped-call]  # as above
        service, sentinels, ssl=secured, **arguments, **(tls if secured else {})
    )


class _MasterPool(SentinelConnectionPool, BlockingConnectionPool):
    """The library's refuses whom it has no connection for, and leaves those to sentinels open."""

    async def disconnect(self, inuse_connections: bool = True) -> None:  # noqa: FBT001, FBT002
        """Close every connection, to the master and to the sentinels."""
        await super().disconnect(inuse_connections)
        for sentinel in self.sentinel_manager.sentinels:
            await sentinel.aclose()
