"""Makes the Redis client that the sidecar needs. Knows addresses and credentials, not sessions.

The client library's defaults are unusable here: a command fails after 3.6 s if the port is closed,
and after 59 s if the server is stopped.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis, SSLConnection
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from sidecar.errors import ConfigError, Problem
from sidecar.secret import Secret
from sidecar.sessions.redis.credentials import PasswordFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.sessions.redis.credential_renewal import RedisCredentials

_NO_SECRET = Secret("")


@dataclass(frozen=True, slots=True)
class RedisConfig:
    """Where Redis is, and how to connect to it. `url` overrides the fields that it contains.

    URL schemes: `redis`, `rediss` (TLS) and `unix`; `redis+sentinel` and `rediss+sentinel` with
    sentinels, a service and a database, as in `redis+sentinel://one:26379,two:26379/mymaster/0`;
    `redis+cluster` and `rediss+cluster` with some of a cluster's nodes. `timeout` limits
    connecting, in seconds. `ca_file` verifies the server's certificate; without a URL it enables
    TLS. `cert_file` and `key_file` are the client's certificate. `credentials` replaces `username`
    and `password`, and the user in `url`. The sentinels have a user of their own;
    `read_sentinel_password` returns its current password.
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
    credentials: RedisCredentials | None = None
    sentinel_username: str = ""
    sentinel_password: Secret = _NO_SECRET
    read_sentinel_password: Callable[[], Secret] | None = field(default=None, repr=False)
    timeout: float = 0.1
    max_connections: int = 9  # one more than a store's slots, for probes


def tracked(config: RedisConfig) -> Callable[[], Redis]:
    """A function that makes clients of the same Redis whose connections `Tracking` can use."""
    return partial(connect, config, reports=True)


def connect(config: RedisConfig, *, reports: bool = False) -> Redis:
    """Make a client, which connects on first use. Raises ConfigError, whose text has no secrets.

    With `reports`, its connections speak RESP 3, in which the server can report changes.
    """
    arguments: dict[str, Any] = {
        "db": config.db,
        "username": config.username or None,
        "password": config.password.reveal() or None,
        "max_connections": config.max_connections,
        "socket_connect_timeout": config.timeout,
        # `RedisLink` gives each operation one total deadline. A limit for each read would only add
        # a task for each command, and raise its cost from 160 to 250 µs of CPU; until Python 3.12,
        # that task may also swallow a cancellation.
        "socket_timeout": None,
        "retry": Retry(NoBackoff(), 0),
        # With RESP 3 the library does not check whether a pooled connection is still usable.
        "protocol": 2,
        "driver_info": None,
    }
    if reports:
        arguments["protocol"] = 3
        # Otherwise the library asks the server for messages that only Redis Enterprise sends.
        arguments["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
    provider = None
    credentials = config.credentials
    if credentials is not None:
        config = replace(config, url=_without_user(config.url))
        del arguments["username"], arguments["password"]
        provider = arguments["credential_provider"] = credentials.provider()
    try:
        client = _client(config, arguments)
    except (ValueError, TypeError):
        # The library's message may quote the URL, including its password.
        expected = (
            "a URL such as redis://redis:6379/0, rediss://user@redis:6380, unix:///run/redis.sock,"
            " redis+sentinel://one:26379,two:26379/mymaster/0, redis+cluster://one:6379,two:6379"
        )
        raise ConfigError([Problem("REDIS_URL", expected)]) from None
    if credentials is not None and provider is not None:
        credentials.follow(client, provider)
    return client


def _client(config: RedisConfig, arguments: dict[str, Any]) -> Redis:
    if "+cluster:" in config.url.reveal():
        return cast("Redis", _cluster(config, arguments))  # it has every method used here
    return Redis.from_pool(_pool(config, arguments))


def _without_user(url: Secret) -> Secret:
    """The URL without a user name or password."""
    scheme, separator, rest = url.reveal().partition("://")
    place, slash, path = rest.partition("/")
    return Secret(f"{scheme}{separator}{place.rpartition('@')[2]}{slash}{path}")


def _pool(config: RedisConfig, arguments: dict[str, Any]) -> ConnectionPool:
    """A pool in which an operation waits for a free connection until its own deadline."""
    url = config.url.reveal()
    tls = _tls(config)
    arguments["timeout"] = None
    if not url:
        if tls:
            arguments |= {"connection_class": SSLConnection, **tls}
        return BlockingConnectionPool(host=config.host, port=config.port, **arguments)
    if "+sentinel:" in url:
        return _sentinel_pool(config, arguments, tls)
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

    Adds the URL's user name and password to `arguments`.
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
    """Accepts an MGET of keys in different slots, which the library's own class refuses."""

    async def mget(self, keys: Any, *args: Any) -> list[Any]:
        """The values, by one command per slot. They need not be a consistent snapshot."""
        return await self.mget_nonatomic(keys, *args)


def _cluster(config: RedisConfig, arguments: dict[str, Any]) -> RedisCluster:
    """A client that discovers which node has which keys. Raises ValueError."""
    hosts, _, secured = _hosts(config.url.reveal(), 6379, arguments)
    if config.credentials is not None:
        arguments["max_connections"] += 1  # to each node, for `reauthentication`
    return _Cluster(
        startup_nodes=[ClusterNode(*each) for each in hosts],
        **arguments,
        **({"ssl": True, **_tls(config)} if secured else {}),
    )


def _sentinel_pool(
    config: RedisConfig, arguments: dict[str, Any], tls: Mapping[str, str]
) -> SentinelConnectionPool:
    """A pool that asks the sentinels for the master on each connect. Raises ValueError."""
    hosts, (service, *db), secured = _hosts(config.url.reveal(), 26379, arguments)
    if not service:
        raise ValueError("no service")
    if db:
        arguments["db"] = int(db[0])
    common = {"socket_connect_timeout": arguments["socket_connect_timeout"], "protocol": 2}
    common |= {"retry": Retry(NoBackoff(), 0), "driver_info": None}
    if config.read_sentinel_password is not None:
        common["credential_provider"] = PasswordFile(
            config.read_sentinel_password, config.sentinel_username, config.sentinel_password
        )
    else:
        common["username"] = config.sentinel_username or None
        common["password"] = config.sentinel_password.reveal() or None
    if secured:
        common |= {"ssl": True, **tls}
    sentinels = Sentinel(  # type: ignore[no-untyped-call]  # redis-py's gap
        hosts,
        # A sentinel that does not answer must leave time to ask the others.
        sentinel_kwargs={**common, "socket_timeout": arguments["socket_connect_timeout"]},
    )
    return _MasterPool(  # type: ignore[no-untyped-call]  # as above
        service, sentinels, ssl=secured, **arguments, **(tls if secured else {})
    )


class _MasterPool(SentinelConnectionPool, BlockingConnectionPool):
    """Waits for a free connection, and closes those to sentinels. The library's does neither."""

    async def disconnect(self, inuse_connections: bool = True) -> None:  # noqa: FBT001, FBT002
        """Close every connection to the master and to the sentinels."""
        await super().disconnect(inuse_connections)
        for sentinel in self.sentinel_manager.sentinels:
            await sentinel.aclose()
