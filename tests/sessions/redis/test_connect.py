"""The Redis client that the sidecar uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio import SSLConnection, UnixDomainSocketConnection
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.sentinel import SentinelConnectionPool

from sidecar.errors import ConfigError
from sidecar.secret import Secret
from sidecar.sessions.redis.connect import RedisConfig, connect
from sidecar.sessions.redis.credential_renewal import RedisCredentials
from sidecar.sessions.redis.credentials import CredentialFile
from sidecar.sessions.redis.reauthentication import ReauthenticatingConnection
from sidecar.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from pathlib import Path


def arguments(config: RedisConfig) -> dict[str, Any]:
    """The arguments of the client's connections."""
    return dict(connect(config).connection_pool.connection_kwargs)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        pytest.param(
            RedisConfig(host="redis", port=6380, db=2, password=Secret("pw")),
            {"host": "redis", "port": 6380, "db": 2, "password": "pw", "username": None},
            id="parts",
        ),
        pytest.param(
            RedisConfig(url=Secret("redis://bob:p%40w@redis:6381/3")),
            {"host": "redis", "port": 6381, "db": 3, "password": "p@w", "username": "bob"},
            id="URL",
        ),
        pytest.param(
            RedisConfig(url=Secret("redis://redis"), password=Secret("pw"), db=4),
            {"host": "redis", "db": 4, "password": "pw"},
            id="URL and parts",
        ),
        pytest.param(
            RedisConfig(url=Secret("unix:///run/redis.sock")),
            {"path": "/run/redis.sock"},
            id="unix",
        ),
        pytest.param(
            RedisConfig(url=Secret("rediss://redis"), ca_file="/ca.pem"),
            {"host": "redis", "ssl_ca_certs": "/ca.pem"},
            id="TLS URL",
        ),
        pytest.param(
            RedisConfig(host="redis", ca_file="/ca.pem"),
            {"host": "redis", "ssl_ca_certs": "/ca.pem"},
            id="TLS",
        ),
    ],
)
def test_where_it_connects_to(config: RedisConfig, expected: dict[str, Any]) -> None:
    """The address comes from a URL, or from separate settings."""
    made = arguments(config)
    assert {name: made.get(name) for name in expected} == expected


def test_how_it_connects() -> None:
    """TLS and unix sockets have their own connection classes."""
    tls = connect(RedisConfig(url=Secret("rediss://redis"))).connection_pool
    assert issubclass(tls.connection_class, SSLConnection)
    assert connect(RedisConfig(ca_file="/ca.pem")).connection_pool.connection_class is SSLConnection
    unix = connect(RedisConfig(url=Secret("unix:///run/redis.sock"))).connection_pool
    assert unix.connection_class is UnixDomainSocketConnection


def test_the_library_neither_retries_nor_waits() -> None:
    """With its own retries and defaults one look-up could take 59 s."""
    made = arguments(RedisConfig(timeout=0.2))
    assert made["socket_connect_timeout"] == 0.2
    assert made["retry"].get_retries() == 0
    assert made["protocol"] == 2


@pytest.mark.parametrize(
    ("url", "reached"),
    [
        pytest.param("", {"host": "localhost", "port": 6379}, id="parts"),
        pytest.param(
            "redis://bob@redis:6381/3", {"host": "redis", "port": 6381, "db": 3}, id="URL"
        ),
        pytest.param("unix://bob@/run/redis.sock", {"path": "/run/redis.sock"}, id="unix"),
        pytest.param("redis+sentinel://bob@one,two/service/2", {"db": 2}, id="sentinel"),
    ],
)
def test_credentials_replace_user_and_password(url: str, reached: dict[str, Any]) -> None:
    """With a file or a command for them, the provider alone gives them to a connection."""
    source = CredentialFile(lambda: Secret("pw"), "file")
    credentials = RedisCredentials(source, "bob", Metrics())
    made = arguments(RedisConfig(url=Secret(url), password=Secret("no"), credentials=credentials))
    assert {name: made.get(name) for name in reached} == reached
    assert made.get("username") is made.get("password") is None
    assert made["credential_provider"].username == "bob"


def test_the_user_of_sentinels() -> None:
    """It is not that of the servers, and neither is given to the other."""
    config = RedisConfig(
        url=Secret("redis+sentinel://bob:pw@one:1,two:2/service"),
        sentinel_username="watcher",
        sentinel_password=Secret("secret"),
    )
    pool = connect(config).connection_pool
    assert isinstance(pool, SentinelConnectionPool)
    assert [pool.connection_kwargs[name] for name in ("username", "password")] == ["bob", "pw"]
    for sentinel in pool.sentinel_manager.sentinels:
        made = sentinel.connection_pool.connection_kwargs
        assert [made[name] for name in ("username", "password")] == ["watcher", "secret"]
        assert "secret" not in repr(sentinel)
    assert "secret" not in repr(config)


def test_sentinels_without_a_user() -> None:
    """They are not sent the credential of the servers."""
    pool = connect(RedisConfig(url=Secret("redis+sentinel://bob:pw@one/service"))).connection_pool
    assert isinstance(pool, SentinelConnectionPool)
    (sentinel,) = pool.sentinel_manager.sentinels
    made = sentinel.connection_pool.connection_kwargs
    assert made["username"] is made["password"] is made["credential_provider"] is None


async def test_every_connection_of_a_cluster_authenticates_again() -> None:
    """Also those to nodes that are found later: the library has no argument for the class."""
    credentials = RedisCredentials(CredentialFile(lambda: Secret("pw"), "f"), "bob", Metrics())
    for url in ("redis+cluster://one:1,two:2", "rediss+cluster://one:1,two:2"):
        client = connect(RedisConfig(url=Secret(url), credentials=credentials))
        assert isinstance(client, RedisCluster)
        manager = client.nodes_manager
        later = ClusterNode("three", 3, **manager.connection_kwargs)
        for node in (*manager.startup_nodes.values(), later):
            connection = node.acquire_connection()
            assert isinstance(connection, ReauthenticatingConnection)
            assert isinstance(connection, SSLConnection) == url.startswith("rediss")
            node.release(connection)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("redis://:hunter2/x@redis", id="slash in the password"),
        pytest.param("http://:hunter2@redis", id="another scheme"),
        pytest.param("redis://:hunter2@redis:port", id="port"),
        pytest.param("redis://:hunter2@redis?db=x", id="database"),
    ],
)
def test_a_bad_url_is_not_repeated(url: str) -> None:
    """The error names the setting and what was expected; the URL may contain a password."""
    with pytest.raises(ConfigError, match="REDIS_URL: a URL such as redis://") as caught:
        connect(RedisConfig(url=Secret(url)))
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_no_password_is_shown(tmp_path: Path) -> None:
    """Neither the configuration nor the client shows it."""
    config = RedisConfig(url=Secret("redis://:hunter2@redis"), password=Secret("hunter3"))
    assert "hunter" not in repr(config) + repr(connect(config))
