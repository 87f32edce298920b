"""What logs call a Redis: its address and the user there, and never a password."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.secret import Secret
from sidecar.sessions.redis.connect import RedisConfig, connect
from sidecar.sessions.redis.credential_renewal import RedisCredentials
from sidecar.sessions.redis.credentials import CredentialFile
from sidecar.sessions.redis.server_name import UNCLEAR_USER, name_of
from sidecar.telemetry.metrics import Metrics

PASSWORD = "pass-w0rd"


def credentials(username: str) -> RedisCredentials:
    """A password from a file."""
    return RedisCredentials(CredentialFile(lambda: Secret(PASSWORD), "file"), username, Metrics())


@pytest.mark.parametrize(
    ("config", "address", "user"),
    [
        pytest.param({}, "localhost:6379", "default", id="default"),
        pytest.param(
            {"host": "redis", "port": 7000, "username": "app", "password": Secret(PASSWORD)},
            *("redis:7000", "app"),
            id="settings",
        ),
        pytest.param({"username": "app"}, "localhost:6379", UNCLEAR_USER, id="no-password"),
        pytest.param(
            {"username": "app", "credentials": credentials("app")},
            *("localhost:6379", "app"),
            id="file",
        ),
        pytest.param(
            {"credentials": credentials("")},
            *("localhost:6379", "default"),
            id="file-without-user",
        ),
        pytest.param(
            {"url": Secret("rediss://app@redis:6380"), "credentials": credentials("app")},
            *("redis:6380", "app"),
            id="url-and-file",
        ),
        pytest.param(
            {
                "url": Secret("redis+cluster://app@one:7000,two:7001"),
                "credentials": credentials("app"),
            },
            *("one:7000,two:7001", "app"),
            id="cluster-and-file",
        ),
        pytest.param(
            {"url": Secret(f"rediss://app:{PASSWORD}@redis:6380/1")}, "redis:6380", "app", id="url"
        ),
        pytest.param(
            {"url": Secret("rediss://app@redis:6380"), "password": Secret(PASSWORD)},
            *("redis:6380", "app"),
            id="url-and-setting",
        ),
        pytest.param(
            {"url": Secret(f"redis://{PASSWORD}@redis")},
            *("redis:6379", UNCLEAR_USER),
            id="password-for-user",
        ),
        pytest.param(
            {"url": Secret(f"redis://:{PASSWORD}@redis")}, "redis:6379", "default", id="no-user"
        ),
        pytest.param(
            {"url": Secret("unix:///run/redis.sock")}, "/run/redis.sock", "default", id="socket"
        ),
        pytest.param(
            {"url": Secret(f"redis+sentinel://app:{PASSWORD}@one,two:26380/mymaster/0")},
            *("sentinel service mymaster", "app"),
            id="sentinel",
        ),
        pytest.param(
            {"url": Secret(f"redis+cluster://app:{PASSWORD}@one:7000,two:7001")},
            *("one:7000,two:7001", "app"),
            id="cluster",
        ),
    ],
)
async def test_names(config: dict[str, Any], address: str, user: str) -> None:
    """Each way to say where Redis is gives an address and a user, and never a password."""
    client = connect(RedisConfig(**config))
    try:
        name = name_of(client)
    finally:
        await client.aclose()
    assert (name.address, name.user) == (address, user)
    assert PASSWORD not in repr(name)
