"""All commands in docs/operating.md, run unchanged against real servers."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.request import urlopen

import pytest

from tests.deploy.manifests import ROOT
from tests.docs.pages import blocks
from tests.peers.redis_server import RedisServer, free_port
from tests.peers.signed import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PAGE: Final = ROOT / "docs/operating.md"
PASSWORD: Final = "3b1d5c0e9f7a4268"
COMMANDS: Final = [block for block in blocks(PAGE) if block.language == "bash"]
APPLICATION: Final = (
    "import sys; from aiohttp import web; from sidecar.demo.application import build_application;"
    "web.run_app(build_application(), host='127.0.0.1', port=int(sys.argv[1]), print=None)"
)
READY: Final = 20.0  # seconds, at most, until a process answers

pytestmark = [
    pytest.mark.needs("bash", "curl", "redis-server", "redis-cli", "openssl"),
    pytest.mark.timeout(120),
]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the commands run: a folder, the variables that the page uses, and a Redis."""

    folder: Path
    environment: Mapping[str, str]
    redis: RedisServer

    def run(self, script: str) -> str:
        """Run a script and return what it prints. Raises AssertionError if a command fails."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A Redis with a password and the page's user, the demo application, and a sidecar."""
    ports = {name: free_port() for name in ("application", "traffic", "admin")}
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SIDECAR": f"http://127.0.0.1:{ports['traffic']}",
        "ADMIN": f"http://127.0.0.1:{ports['admin']}",
        "REDIS_HOST": "127.0.0.1",
        "REDISCLI_AUTH": PASSWORD,
    }
    with RedisServer(password=PASSWORD) as redis:
        environment["REDIS_PORT"] = str(redis.port)
        here = Place(tmp_path_factory.mktemp("commands"), environment, redis)
        (rights,) = (block.text for block in COMMANDS if "ACL SETUSER" in block.text)
        here.run(f"{COMMANDS[0].text}\n{rights}")
        application = [sys.executable, "-c", APPLICATION, str(ports["application"])]
        with (
            _process(here, application, {}, f"http://127.0.0.1:{ports['application']}/health"),
            _process(
                here,
                [sys.executable, "-m", "sidecar", "run"],
                _settings(redis.port, ports),
                f"{environment['ADMIN']}/readyz",
            ),
        ):
            yield here
            restored = here.folder / "restored/redis.sock"
            if restored.exists():  # a failed run must not leave it behind
                here.run(f"redis-cli -s {restored} SHUTDOWN NOSAVE FORCE NOW")


def _settings(redis: int, ports: Mapping[str, int]) -> dict[str, str]:
    return {
        "LISTEN": f"127.0.0.1:{ports['traffic']}",
        "ADMIN_LISTEN": f"127.0.0.1:{ports['admin']}",
        "UPSTREAM_URL": f"http://127.0.0.1:{ports['application']}",
        "JWT_SECRET": "the-access-secret-of-the-commands-0123456789",
        "REFRESH_SECRET": "the-refresh-secret-of-the-commands-987654321",
        "USERS_FILE": str(ROOT / "config/users.toml"),
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": str(redis),
        "REDIS_USERNAME": "sidecar",
        "REDIS_PASSWORD": PASSWORD,
    }


@contextlib.contextmanager
def _process(
    place: Place, command: Sequence[str], settings: Mapping[str, str], url: str
) -> Iterator[None]:
    """Run a command until it answers, and end it on leaving."""
    log = place.folder / f"{len(settings)}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **settings},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + READY
        while not _answers(url):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(READY)


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=2):  # noqa: S310 (a URL of ours)
            return True
    except OSError:
        return False


@pytest.fixture(scope="module")
def printed(place: Place) -> dict[str, str]:
    """The output of each block, by the text of the block; all run in order in one shell."""
    script = "\n".join(
        f"printf '\\n@@%s\\n' {number}\n{block.text}" for number, block in enumerate(COMMANDS)
    )
    parts = place.run(script).split("\n@@")[1:]
    assert len(parts) == len(COMMANDS)
    outputs = (part.partition("\n")[2].strip() for part in parts)
    return dict(zip((block.text.strip() for block in COMMANDS), outputs, strict=True))


def _of(printed: Mapping[str, str], command: str) -> str:
    """The output of the only block that contains this command."""
    (found,) = (output for text, output in printed.items() if command in text)
    return found


def test_every_block_says_whether_it_is_run() -> None:
    """Blocks are bash (run here), console (cannot be run here), a file or plain text."""
    languages = {block.language for block in blocks(PAGE)}
    assert languages == {"bash", "console", "toml", "text", ""}
    assert len(COMMANDS) > 15


def test_every_command_works(printed: dict[str, str]) -> None:
    """All commands succeed, one after the other."""
    assert len(printed) == len(COMMANDS)


def test_a_session_is_found(printed: dict[str, str]) -> None:
    """The session of a new token is under the documented key, with the documented TTL."""
    value, ttl = _of(printed, 'redis GET "session:token:').rsplit("\n", 1)
    assert '"sub":"alice"' in value
    assert 0 < int(ttl) <= 15 * 60 + 1  # rounded


def test_a_login_is_found(printed: dict[str, str]) -> None:
    """The commands count, list and show a user's logins."""
    tokens, logins, *fields, ttl = _of(printed, "redis ZCARD").splitlines()
    assert int(tokens) == int(logins) == 1
    assert "current:0" in fields
    assert 0 < int(ttl) <= 7 * 86400


def test_the_diagnosis_is_of_a_healthy_sidecar(printed: dict[str, str]) -> None:
    """The diagnostic commands report a healthy sidecar that uses Redis."""
    text = _of(printed, 'curl -sf "$ADMIN/status"\n')
    assert '"degraded":false' in text
    assert "sidecar_degraded 0.0" in text
    assert 'sidecar_breaker_state{state="closed"} 1.0' in text
    assert _of(printed, "redis ping").startswith("PONG")


def test_a_session_ended_by_hand_is_ended(printed: dict[str, str]) -> None:
    """After a session's keys are deleted, the sidecar refuses its token."""
    assert _of(printed, "for SID in").splitlines()[-1] == "401"


def test_everybody_is_logged_out(printed: dict[str, str]) -> None:
    """The command that logs out all users runs, and Redis reports numbers of deleted keys."""
    assert all(line.isdigit() for line in _of(printed, "UNLINK").splitlines())


def test_the_backup_is_restored(place: Place, printed: dict[str, str]) -> None:
    """A Redis started from the backup has its session and writes it to a new file."""
    assert _of(printed, "redis-server --port 0").splitlines() == ["1", "OK"]
    assert list((place.folder / "restored/appendonlydir").glob("*.base.rdb"))
    assert not (place.folder / "restored/redis.sock").exists()


def test_the_rights_are_enough(place: Place, printed: dict[str, str]) -> None:
    """The documented ACL allows all that the sidecar does for logins, refreshes and logouts."""
    place.run(
        COMMANDS[0].text
        + """
        of() { sed "s/.*\\"$1\\":\\"\\([^\\"]*\\)\\".*/\\1/"; }
        post() { curl -sf -X POST "$SIDECAR/auth/$1" -H 'Content-Type: application/json' "${@:2}"; }
        FIRST=$(post login -d '{"username": "admin", "password": "demo-admin"}')
        NEXT=$(post refresh -d "{\\"refresh_token\\": \\"$(echo "$FIRST" | of refresh_token)\\"}")
        TOKEN=$(echo "$NEXT" | of access_token)
        curl -sf "$SIDECAR/auth/sessions" -H "Authorization: Bearer $TOKEN"
        post logout -H "Authorization: Bearer $TOKEN"
        FIRST=$(post login -d '{"username": "admin", "password": "demo-admin"}')
        post 'logout?all=true' -H "Authorization: Bearer $(echo "$FIRST" | of access_token)"
        """
    )
    assert place.redis.admin.acl_log() == []
    assert place.redis.admin.exists(NAMES.user("admin")) == 0
    metrics = place.run('curl -sf "$ADMIN/metrics"')
    assert "sidecar_degraded 0.0" in metrics
    assert "sidecar_near_cache_coherent 1.0" in metrics


def test_the_rights_are_no_more_than_needed(place: Place) -> None:
    """The documented ACL refuses other keys and other commands."""
    refused = place.run(
        COMMANDS[0].text
        + """
        as() { redis --user sidecar "$@" 2>&1 || true; }
        as MGET other; as FLUSHALL; as CONFIG GET '*'; as KEYS '*'; as MGET session:token:x
        """
    )
    assert refused.count("NOPERM") == 4
