"""Passwords of Redis that expire: a whole sidecar, a real Redis, and a program that prints them."""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.app import build
from sidecar.cli import redis_credential
from sidecar.cli.terminal import CommandFailed
from sidecar.errors import ConfigError
from sidecar.settings import merge, print_config, secrets_of, settings_from
from sidecar.telemetry.metrics import Metrics
from tests.peers.patience import until
from tests.peers.raw_client import build as build_request
from tests.peers.raw_client import connect
from tests.peers.redis_server import RedisServer
from tests.peers.scripted_upstream import ScriptedUpstream
from tests.peers.stack import Stack, configure, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

SOON: Final = 20.0  # seconds: an upper limit on a busy machine
FIRST, SECOND = "the-first-password", "the-second-password"
SECRETS: Final = {"JWT_SECRET": "abcdefgh" * 4, "REFRESH_SECRET": "ijklmnop" * 4}


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis with the user alice."""
    with RedisServer() as server:
        server.command("ACL", "SETUSER", "alice", "on", f">{FIRST}", "~*", "&*", "+@all")
        yield server


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """An application that answers 200."""
    async with ScriptedUpstream() as server:
        yield server


def printing(file: Path, port: int) -> dict[str, Any]:
    """Settings of a sidecar whose command prints this file, or fails if there is none."""
    return {
        "session_store": "redis",
        "redis_url": f"redis://alice@127.0.0.1:{port}",
        "redis_timeout": "5s",
        "redis_password_command": ["/bin/cat", str(file)],
    }


def give(file: Path, password: str, lifetime: float = 1.0) -> None:
    """Have the command print this password."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps({"password": password, "expires_in": lifetime}) + "\n")
    new.rename(file)


async def credential(running: Stack) -> dict[str, Any]:
    """What `/status` says about the credential."""
    async with connect(running.sidecar.admin_port) as client:
        answer = await client.ask(build_request("GET", "/status"))
    assert FIRST.encode() not in answer.body
    found: dict[str, Any] = answer.json()["redis_credential"]
    return found


def ids(redis: RedisServer) -> set[str]:
    """Every connection of alice."""
    return {each["id"] for each in redis.admin.client_list() if each["user"] == "alice"}


async def test_a_program_that_prints_passwords(
    upstream: ScriptedUpstream,
    redis: RedisServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its new password is used by the open connections, and no request fails."""
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "token"
    give(file, FIRST)
    async with stack(upstream.url, **printing(file, redis.port)) as running:
        tokens = await running.login()
        before = ids(redis)
        redis.command("ACL", "SETUSER", "alice", f">{SECOND}")
        give(file, SECOND)
        name = 'sidecar_redis_credentials_total{result="renewed"}'
        while await running.metric(name) < 1 or (await credential(running))["stale_connections"]:
            assert (await running.get("/x", token=tokens.access)).status == 200
        redis.command("ACL", "SETUSER", "alice", f"<{FIRST}")
        assert await credential(running) == {
            "source": "redis_password_command",
            "state": "accepted",
            "problem": "",
            "stale_connections": 0,
        }
        assert (await running.get("/x", token=tokens.access)).status == 200
        await running.login()
        assert before <= ids(redis)
        assert running.sidecar.status()["store_transitions"] == []
    assert FIRST not in caplog.text
    assert SECOND not in caplog.text


async def test_no_password_at_the_start(
    upstream: ScriptedUpstream, redis: RedisServer, tmp_path: Path
) -> None:
    """The sidecar starts as in an outage, and uses Redis once there is a password."""
    file = tmp_path / "token"
    async with stack(upstream.url, **printing(file, redis.port)) as running:
        assert running.sidecar.degraded
        found = await credential(running)
        assert (found["state"], found["problem"]) == ("missing", "ended with status 1")
        tokens = await running.login()
        assert (await running.get("/x", token=tokens.access)).status == 200
        give(file, FIRST)
        await until(lambda: not running.sidecar.degraded, SOON)
        assert (await credential(running))["state"] == "accepted"
        assert (await running.get("/x", token=tokens.access)).status == 200


async def test_commands_of_the_operator(redis: RedisServer, tmp_path: Path) -> None:
    """`sidecar sessions` and `sidecar token` fetch the password themselves, or say why not."""
    file = tmp_path / "token"
    settings = configure(tmp_path, "http://127.0.0.1:1", **printing(file, redis.port))
    with pytest.raises(CommandFailed, match="no credential for Redis: ended with status 1"):
        await redis_credential.fetch_credential(settings, Metrics())
    give(file, FIRST)
    credentials = await redis_credential.fetch_credential(settings, Metrics())
    mac = build.make_value_mac(settings)
    client, store = build.make_remote(settings, Metrics(), mac, credentials)
    assert await client.ping()
    assert (store.server.address, store.server.user) == (f"127.0.0.1:{redis.port}", "alice")
    await store.close()


async def test_what_the_program_inherits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sidecar's environment, without the sidecar's own secrets."""
    for name in ("JWT_SECRET", "REFRESH_SECRET", "REDIS_URL", "AWS_REGION"):
        monkeypatch.setenv(name, f"value-of-{name}")
    show = "import json, os; print(json.dumps({'password': ' '.join(sorted(os.environ))}))"
    settings = configure(
        tmp_path,
        "http://127.0.0.1:1",
        session_store="redis",
        redis_password_command=[sys.executable, "-c", show],
    )
    credentials = build.make_redis_credentials(settings, Metrics())
    assert credentials is not None
    await credentials.renew()
    assert credentials.current is not None
    names = set(credentials.current.password.reveal().split())
    assert names == set(os.environ) - {"JWT_SECRET", "REFRESH_SECRET", "REDIS_URL"}
    assert "AWS_REGION" in names


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        pytest.param(
            {"redis_password_command": ["/opt/missing", "x"]},
            "redis_password_command: expected a program that can be executed; not found: "
            "/opt/missing",
            id="no such program",
        ),
        pytest.param(
            {"redis_password_file": "{folder}/lines"},
            "redis_password_file {folder}/lines: expected a password on one line, or a JSON object",
            id="two lines",
        ),
        pytest.param(
            {"redis_password_file": "{folder}/object"},
            'redis_password_file {folder}/object: expected a text as "password" or "access_token" '
            "of the JSON object",
            id="object without a password",
        ),
    ],
)
def test_what_cannot_work(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    """It is a problem of the configuration, found before the start."""
    (tmp_path / "lines").write_text(f"{FIRST}\n{SECOND}\n")
    (tmp_path / "object").write_text(json.dumps({"token": FIRST}))
    given: dict[str, Any] = {
        name: value.format(folder=tmp_path) if isinstance(value, str) else value
        for name, value in changes.items()
    }
    settings = configure(tmp_path, "http://127.0.0.1:1", session_store="redis", **given)
    with pytest.raises(ConfigError) as caught:
        build.make_components(settings)
    assert str(caught.value) == problem.format(folder=tmp_path)
    local = configure(tmp_path, "http://127.0.0.1:1", session_store="local", **given)
    assert build.make_components(local)
    assert build.make_redis_credentials(local, Metrics()) is None


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        pytest.param(
            {"REDIS_PASSWORD": "x"},
            "expected no redis_password, because redis_password_command is set",
            id="password",
        ),
        pytest.param(
            {"REDIS_PASSWORD_FILE": "{folder}/file"},
            "expected no redis_password_file, because redis_password_command is set",
            id="file",
        ),
        pytest.param(
            {"REDIS_URL": f"redis://alice:{FIRST}@redis"},
            "expected no password in redis_url, because redis_password_command is set",
            id="URL",
        ),
    ],
)
def test_one_source(tmp_path: Path, given: dict[str, str], problem: str) -> None:
    """A command beside another password is a mistake, whichever was meant."""
    (tmp_path / "file").write_text("x")
    env = {name: value.format(folder=tmp_path) for name, value in given.items()}
    with pytest.raises(ConfigError) as caught:
        settings_from(env={**SECRETS, "REDIS_PASSWORD_COMMAND": "/bin/cat /token", **env})
    assert str(caught.value) == f"environment REDIS_PASSWORD_COMMAND: {problem}"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        pytest.param(
            {"REDIS_SENTINEL_USERNAME": "watcher", "REDIS_SENTINEL_PASSWORD": "x"},
            "redis_url: expected redis+sentinel:// or rediss+sentinel://, because "
            "redis_sentinel_username is set",
            id="no sentinels",
        ),
        pytest.param(
            {"REDIS_SENTINEL_PASSWORD": "x", "REDIS_URL": "redis://redis"},
            "environment REDIS_URL: expected redis+sentinel:// or rediss+sentinel://, because "
            "redis_sentinel_password is set",
            id="no sentinels in the URL",
        ),
        pytest.param(
            {"REDIS_SENTINEL_USERNAME": "watcher", "REDIS_URL": "redis+sentinel://one/service"},
            "environment REDIS_SENTINEL_USERNAME: expected redis_sentinel_password or "
            "redis_sentinel_password_file to be set, because redis_sentinel_username is",
            id="no password",
        ),
    ],
)
def test_the_user_of_sentinels(given: dict[str, str], problem: str) -> None:
    """It needs sentinels and a password."""
    with pytest.raises(ConfigError) as caught:
        settings_from(env={**SECRETS, **given})
    assert str(caught.value) == problem


def test_a_password_in_the_url_has_precedence(tmp_path: Path) -> None:
    """The file is then not read again; the user of a URL without a password is kept."""
    (tmp_path / "file").write_text("x")
    file: dict[str, Any] = {"session_store": "redis", "redis_password_file": str(tmp_path / "file")}
    url = "http://127.0.0.1:1"
    whole = configure(tmp_path, url, redis_url="redis://bob:pw@redis", **file)
    assert build.make_redis_credentials(whole, Metrics()) is None
    user = configure(tmp_path, url, redis_url="redis://b%6fb@redis", redis_username="alice", **file)
    credentials = build.make_redis_credentials(user, Metrics())
    assert credentials is not None
    assert credentials.username == "bob"
    neither = configure(tmp_path, url, session_store="redis")
    assert build.make_redis_credentials(neither, Metrics()) is None


def test_a_new_password_in_the_file_waits_for_nothing(tmp_path: Path) -> None:
    """A reload does not list it among what needs a restart; a new password elsewhere it does."""
    found = []
    for password in (FIRST, SECOND):
        (tmp_path / "file").write_text(password)
        env = {**SECRETS, "REDIS_PASSWORD_FILE": str(tmp_path / "file")}
        found.append(settings_from(env=env))
    merged, waiting = merge(*found)
    assert (merged.redis_password.reveal(), waiting) == (SECOND, ())
    assert SECOND in [each.reveal() for each in secrets_of(merged)]
    by_value = [settings_from(env={**SECRETS, "REDIS_PASSWORD": each}) for each in (FIRST, SECOND)]
    assert merge(*by_value)[1] == ("redis_password",)


def test_what_print_config_shows() -> None:
    """The command, because it is not secret, and no password."""
    env = {
        **SECRETS,
        "REDIS_PASSWORD_COMMAND": "/opt/token --json 'a b'",
        "REDIS_URL": "redis+sentinel://one/service",
        "REDIS_SENTINEL_PASSWORD": FIRST,
    }
    text = print_config(settings_from(env=env))
    assert 'redis_password_command = ["/opt/token", "--json", "a b"]' in text
    assert 'redis_sentinel_password = "***"' in text
    assert FIRST not in text
