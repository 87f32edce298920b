"""`sidecar sessions` on a real Redis."""

from __future__ import annotations

import asyncio
import json
import re
import time
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from sidecar.auth.denylist import RevocationKind, revocation_name
from sidecar.auth.revocation import EVERYTHING, Revocation, decode_revocation
from sidecar.auth.session import token_id
from sidecar.auth.value_mac import Purpose
from sidecar.cli import main
from sidecar.sessions.redis.connect import RedisConfig, connect
from sidecar.sessions.redis.store import RedisStore
from sidecar.settings.model import Settings, kinds_of
from sidecar.telemetry.metrics import Metrics
from tests.peers.redis_server import RedisServer, free_port
from tests.peers.signed import MAC, NAMES, REFRESH_SECRET, unsigned
from tests.sessions.contract import new_login

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from sidecar.auth.session import Grant

NOW = 1_790_000_000.0
TOKEN = "the.token.itself"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """Start one Redis for all tests of this module."""
    with RedisServer() as running:
        yield running


@pytest.fixture
def redis(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    """Return the Redis, emptied, and set an environment that uses it."""
    server.admin.flushall()
    server.forget_calls()
    for name in kinds_of(Settings):
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("JWT_SECRET", "access-secret-0123456789abcdefghijklmnop")
    monkeypatch.setenv("REFRESH_SECRET", REFRESH_SECRET)
    monkeypatch.setenv("REDIS_HOST", "127.0.0.1")
    monkeypatch.setenv("REDIS_PORT", str(server.port))
    return server


def log_in(server: RedisServer, grants: Sequence[Grant]) -> None:
    """Write these sessions as the sidecar does."""

    async def write() -> None:
        client = connect(RedisConfig(host="127.0.0.1", port=server.port, timeout=5.0))
        store = RedisStore(client, Metrics(), MAC, clock=lambda: NOW, timeout=5.0)
        for start in range(0, len(grants), 200):
            await asyncio.gather(*map(store.write, grants[start : start + 200]))
        await store.close()

    asyncio.run(write())


def revocation_in(server: RedisServer, name: str) -> Revocation:
    """Return a revocation from Redis."""
    key = NAMES.revocation(name)
    return decode_revocation(unsigned(Purpose.REVOCATION, key, server.value(key.decode())))


def test_the_list(redis: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The list is a table with readable times, and shows no credential."""
    grant = new_login(NOW)
    log_in(redis, [grant])
    assert main(["sessions", "list"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["SID", "USER", "CREATED"]
    assert row.split()[:3] == [grant.session.sid, "alice", "2026-09-21T14:13:20Z"]
    assert row.endswith("curl/8")
    assert grant.session.id not in row
    assert (grant.refresh_id or "") not in row


def test_the_list_as_json(redis: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The output has one JSON object per line."""
    log_in(redis, [new_login(NOW), new_login(NOW, "bob")])
    assert main(["sessions", "list", "--json", "--user", "bob"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert (found["sub"], found["address"]) == ("bob", "192.0.2.1")
    for name in ("created", "seen", "exp"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found[name]), name
    assert datetime.fromisoformat(found["created"]).timestamp() == int(NOW)


def test_many(redis: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Many sessions are read in steps, without KEYS."""
    log_in(redis, [new_login(NOW, f"user-{number}") for number in range(3000)])
    assert main(["sessions", "count"]) == 0
    assert capsys.readouterr().out == "3000\n"
    assert main(["sessions", "list", "--limit", "7"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 8
    commands = redis.admin.info("commandstats")
    assert isinstance(commands, dict)
    assert "cmdstat_keys" not in commands
    assert commands["cmdstat_scan"]["calls"] > 1


def test_a_hostile_user_agent(redis: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters of a user agent do not reach the terminal."""
    log_in(redis, [replace(new_login(NOW), user_agent="\x1b[2Jx\r\ny\u202e")])
    assert main(["sessions", "list"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[1].endswith(r"\x1b[2Jx\r\ny\u202e")
    assert len(out.splitlines()) == 2


def test_what_is_not_ours(redis: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Values of another program under similar keys are ignored."""
    redis.admin.set(NAMES.login("text"), "x")
    redis.admin.hset(NAMES.login("hash").decode(), "a", "b")
    assert main(["sessions", "list"]) == 1
    assert capsys.readouterr().err == "no sessions\n"


def test_another_application(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sessions of another prefix, audience or secret are neither listed nor ended."""
    grant = new_login(NOW)
    log_in(redis, [grant])
    for name, value in (
        ("REDIS_KEY_PREFIX", "orders:"),
        ("JWT_AUDIENCE", "orders"),
        ("REFRESH_SECRET", REFRESH_SECRET[::-1]),
    ):
        with monkeypatch.context() as changed:
            changed.setenv(name, value)
            assert main(["sessions", "list"]) == 1
            assert main(["sessions", "show", grant.session.sid]) == 1
            assert main(["sessions", "count"]) == 0
            assert capsys.readouterr().out == "0\n"
    assert main(["sessions", "revoke", "--user", "alice"]) == 0


def test_a_prefix(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With REDIS_KEY_PREFIX, every key begins with it, and all commands use it."""
    monkeypatch.setenv("REDIS_KEY_PREFIX", "orders:")
    assert main(["token", "mint", "--sub", "alice", "--store"]) == 0
    assert all(key.startswith("orders:") for key in redis.lives())
    assert len(redis.lives()) >= 3
    capsys.readouterr()
    assert main(["sessions", "list"]) == 0
    sid = capsys.readouterr().out.splitlines()[1].split()[0]
    assert main(["sessions", "revoke", "--sid", sid]) == 0
    assert redis.lives() == {}


def test_one(redis: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    """`show` finds a session by its sid."""
    grant = new_login(NOW)
    log_in(redis, [grant])
    assert main(["sessions", "show", grant.session.sid]) == 0
    out = capsys.readouterr().out
    assert f"sid         {grant.session.sid}\n" in out
    assert "user agent  curl/8" in out
    assert main(["sessions", "show", grant.session.sid, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sid"] == grant.session.sid
    assert main(["sessions", "show", "nobody's"]) == 1
    assert capsys.readouterr().err == "no such session\n"


def test_revoking_one(redis: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Revoking ends everything of a session; repeating it finds no session."""
    grant = new_login(NOW)
    log_in(redis, [grant])
    assert main(["sessions", "revoke", "--sid", grant.session.sid]) == 0
    assert capsys.readouterr().out == "1 session ended\n"
    assert redis.admin.keys("*") == []
    assert main(["sessions", "revoke", "--sid", grant.session.sid]) == 1
    assert main(["sessions", "revoke", "--sid=-x"]) == 1  # not an option, but an id
    assert capsys.readouterr().out == "0 sessions ended\n" * 2


def test_revoking_all(redis: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Every session of every user ends; repeating it finds none."""
    log_in(redis, [new_login(NOW, f"user-{number % 40}") for number in range(100)])
    assert main(["sessions", "revoke", "--all"]) == 0
    assert capsys.readouterr().out == "100 sessions ended\n"
    assert redis.admin.keys("*") == []
    assert main(["sessions", "revoke", "--all"]) == 1


def test_revoking_by_token(
    redis: RedisServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token is read from standard input, and is not shown."""
    grant = new_login(NOW)
    session = replace(grant.session, id=token_id(TOKEN.encode()))
    log_in(redis, [replace(grant, session=session)])
    monkeypatch.setattr("sidecar.cli.sessions.read_line", lambda _: TOKEN + "\n")
    assert main(["sessions", "revoke", "--token"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "1 session ended\n"
    assert redis.admin.keys("*") == []


@pytest.mark.parametrize("moment", [f"{NOW + 50}", "2026-09-21T14:14:10Z", "2026-09-21T14:14:10"])
def test_revoking_what_began_before(
    redis: RedisServer, capsys: pytest.CaptureFixture[str], moment: str
) -> None:
    """Later sessions of the user, and other users' sessions, stay live."""
    old = [new_login(NOW + number / 1000) for number in range(1200)]
    new, bobs = new_login(NOW + 100), new_login(NOW, "bob")
    log_in(redis, [*old, new, bobs])
    assert main(["sessions", "revoke", "--user", "alice", "--before", moment]) == 0
    assert capsys.readouterr().out == "1200 sessions ended\n"
    assert main(["sessions", "count"]) == 0
    assert main(["sessions", "show", new.session.sid]) == 0
    assert main(["sessions", "show", bobs.session.sid]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(
            ["revoke", "--user", "alice", "--before", "noon"],
            "sidecar: --before: expected a time such as 2026-01-31T12:00:00Z, or seconds;"
            ' got "noon"',
            id="time",
        ),
        pytest.param(
            ["revoke", "--sid", "x", "--before", "5"],
            "sidecar: --before: expected --user with it",
            id="without-user",
        ),
    ],
)
def test_what_cannot_be_meant(
    redis: RedisServer, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    """A contradictory command is refused with a message, and ends nothing."""
    log_in(redis, [new_login(NOW)])
    assert main(["sessions", *arguments]) == 2
    assert capsys.readouterr().err == said + "\n"
    assert redis.admin.zcard(NAMES.user("alice")) == 1


def test_without_redis(
    redis: RedisServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unusable Redis, or sessions in local memory, are reported."""
    port = free_port()
    monkeypatch.setenv("REDIS_PORT", str(port))
    for arguments in (["list"], ["count"], ["revoke", "--sid", "x"], ["show", "x"]):
        assert main(["sessions", *arguments]) == 1
        said = f"sidecar: Redis at 127.0.0.1:{port} cannot be used: refused\n"
        assert capsys.readouterr().err == said
    monkeypatch.setenv("SESSION_STORE", "local")
    assert main(["sessions", "list"]) == 2
    assert "expected session_store = redis" in capsys.readouterr().err


def test_a_wrong_password(
    redis: RedisServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong Redis password is reported with server, user and what to check, and not shown."""
    monkeypatch.setenv("REDIS_USERNAME", "nobody")
    monkeypatch.setenv("REDIS_PASSWORD", "not-this-one")
    assert main(["sessions", "list"]) == 1
    said = capsys.readouterr().err
    address = f"127.0.0.1:{redis.port}"
    assert said.startswith(f"sidecar: Redis at {address} cannot be used: auth (user nobody); check")
    assert "REDIS_PASSWORD" in said
    assert "not-this-one" not in said


ISSUERS = """
[[issuer]]
issuer = "https://id.example"
audience = "app"
jwks_url = "https://id.example/keys"
session_mode = "denylist"

[[issuer]]
issuer = "https://other.example"
audience = "app"
jwks_url = "https://other.example/keys"
session_mode = "none"
"""


@pytest.fixture
def issuers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Configure two foreign issuers; return the one with a denylist."""
    file = tmp_path / "sidecar.toml"
    file.write_text(ISSUERS)
    monkeypatch.setenv("SIDECAR_CONFIG", str(file))
    return "https://id.example"


@pytest.mark.parametrize(
    ("arguments", "kind", "before"),
    [
        pytest.param(["--jti", "alice"], RevocationKind.JTI, EVERYTHING, id="token"),
        pytest.param(["--sid", "alice"], RevocationKind.SID, EVERYTHING, id="login"),
        pytest.param(
            ["--user", "alice", "--before", "2026-09-21T14:13:20Z"],
            *(RevocationKind.USER, NOW),
            id="user",
        ),
    ],
)
def test_revoking_a_foreign_one(
    redis: RedisServer, issuers: str, arguments: list[str], kind: RevocationKind, before: float
) -> None:
    """A revocation is one key that every pod reads; our sessions with that id stay live."""
    log_in(redis, [new_login(NOW)])
    assert main(["sessions", "revoke", "--issuer", issuers, *arguments]) == 0
    assert revocation_in(redis, revocation_name(kind, issuers, "alice")).before == before
    assert redis.admin.zcard(NAMES.user("alice")) == 1


def test_revoking_all_of_a_foreign_user(redis: RedisServer, issuers: str) -> None:
    """All tokens issued before now are revoked."""
    began = time.time()
    assert main(["sessions", "revoke", "--issuer", issuers, "--user", "alice"]) == 0
    name = revocation_name(RevocationKind.USER, issuers, "alice")
    found = revocation_in(redis, name)
    assert began <= found.before <= time.time()
    assert found.until > found.before + 86400


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["--jti", "x"], "--jti: expected --issuer with it", id="whose"),
        pytest.param(
            ["--issuer", "https://other.example", "--jti", "x"],
            "--issuer: expected one with session_mode = denylist (https://id.example);"
            ' got "https://other.example"',
            id="another-mode",
        ),
        pytest.param(
            ["--issuer", "https://id.example", "--token"],
            "--issuer: expected --jti, --sid or --user with it",
            id="token",
        ),
        pytest.param(
            ["--issuer", "https://id.example", "--all"],
            "--issuer: expected --jti, --sid or --user with it",
            id="all",
        ),
    ],
)
@pytest.mark.usefixtures("issuers")
def test_what_cannot_be_revoked(
    redis: RedisServer, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    """A contradictory command is refused with a message, and writes nothing."""
    assert main(["sessions", "revoke", *arguments]) == 2
    assert capsys.readouterr().err == f"sidecar: {said}\n"
    assert redis.admin.keys("*") == []
