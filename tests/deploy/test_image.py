"""The image, as far as it can be built and run without an engine: the build, then the process.

Not tested is what an engine adds: layers, the base image itself, and isolation by the kernel.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

import sidecar
from tests.deploy.dockerfile import Instruction, parse, rest_of
from tests.deploy.manifests import ROOT
from tests.deploy.rehearsal import Rehearsal
from tests.peers.redis_server import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

_, BUILD, FINAL = parse(ROOT / "Dockerfile")
WORDS: Final = ("ENTRYPOINT", "CMD")
READY: Final = 20.0  # seconds, at most
# Files can be neither written nor extended, as on a read-only root file system.
CONFINED: Final = ("prlimit", "--fsize=0", "--")
# Without capabilities, file modes apply to root as to any other user.
POWERLESS: Final = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")

pytestmark = [pytest.mark.needs("prlimit", "setpriv", "gcc"), pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def image() -> Iterator[Rehearsal]:
    """The result of the build stage, made read-only."""
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        rehearsal = Rehearsal(Path(folder), ROOT)
        rehearsal.build(BUILD)
        subprocess.run(["chmod", "-R", "a-w", f"{folder}/opt"], check=True)
        yield rehearsal
        subprocess.run(["chmod", "-R", "u+w", f"{folder}/opt"], check=True)


def _environment(image: Rehearsal, **settings: str) -> dict[str, str]:
    return {**image.environment(FINAL), **settings}


def _files(image: Rehearsal) -> dict[str, int]:
    root = Path(image.path("/opt/venv"))
    return {str(path): path.lstat().st_mtime_ns for path in root.rglob("*")}


def _confined(command: list[str]) -> list[str]:
    return [*(POWERLESS if os.geteuid() == 0 else ()), *CONFINED, *command]


@pytest.fixture
def running(image: Rehearsal) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """The image's command without a Redis, confined as in k8s/base; its process and two ports."""
    ((entry,), (command,)) = ([i.command() for i in FINAL if i.word == word] for word in WORDS)
    traffic, admin = free_port(), free_port()
    environment = _environment(
        image,
        LISTEN=f"127.0.0.1:{traffic}",
        ADMIN_LISTEN=f"127.0.0.1:{admin}",
        REDIS_PORT=str(free_port()),
        JWT_SECRET="the-access-secret-of-the-image-0123456789abc",
        REFRESH_SECRET="the-refresh-secret-of-the-image-987654321cba",
    )
    process = subprocess.Popen(
        _confined([*entry, *command]), cwd="/", env=environment, stdout=subprocess.PIPE
    )
    try:
        end = time.monotonic() + READY
        while _status(f"http://127.0.0.1:{admin}/livez") != 200:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        yield process, traffic, admin
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=READY)


def _status(url: str) -> int:
    try:
        with urlopen(url, timeout=2) as answer:  # noqa: S310 (a URL of ours)
            return int(answer.status)
    except HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_the_command_is_installed(image: Rehearsal) -> None:
    """`sidecar` is on the image's path; it prints the version that was built, and is compiled."""
    done = subprocess.run(
        _confined(["sidecar", "version"]),
        env=_environment(image),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout == f"sidecar {sidecar.__version__} (compiled)\n"


def test_nothing_of_the_build_is_left(image: Rehearsal) -> None:
    """The image contains no pip, build backend, compiler or tests."""
    names = {path.name for path in Path(image.path("/opt/venv")).rglob("*")}
    assert not names & {"pip", "setuptools", "wheel", "mypy", "mypyc", "pytest", "tests"}


def test_bytecode_is_there_and_is_not_checked(image: Rehearsal) -> None:
    """Each module has bytecode that is marked as not to be compared with its source."""
    package = Path(image.path("/opt/venv/lib"))
    (module,) = package.glob("python*/site-packages/sidecar/app/sidecar.py")
    (compiled,) = (module.parent / "__pycache__").glob("sidecar.*.pyc")
    assert compiled.read_bytes()[4:8] == b"\x01\x00\x00\x00"  # PEP 552: hash-based, unchecked


def test_it_runs_and_writes_nothing(
    image: Rehearsal, running: tuple[subprocess.Popen[bytes], int, int]
) -> None:
    """Without write access and without Redis, the sidecar starts, answers and exits with 0."""
    process, traffic, admin = running
    before = _files(image)
    assert _status(f"http://127.0.0.1:{admin}/readyz") == 200
    assert _status(f"http://127.0.0.1:{admin}/metrics") == 200
    assert _status(f"http://127.0.0.1:{traffic}/") == 401
    process.terminate()
    output = process.communicate(timeout=READY)[0].decode()
    assert process.returncode == 0
    assert "Redis not available, using in-memory session cache" in output
    assert _files(image) == before


def test_the_health_check(
    image: Rehearsal, running: tuple[subprocess.Popen[bytes], int, int]
) -> None:
    """The health check succeeds while the sidecar runs and fails afterwards."""
    process, _, admin = running
    (check,) = rest_of(FINAL, "HEALTHCHECK")
    command = Instruction("CMD", check.partition(" CMD ")[2]).command()
    moved = [part.replace(":9105/", f":{admin}/") for part in command]
    assert _exit(image, moved) == 0
    process.kill()
    process.wait(READY)
    assert _exit(image, moved) == 1


def _exit(image: Rehearsal, command: list[str]) -> int:
    environment = _environment(image)
    done = subprocess.run(
        _confined(command), env=environment, capture_output=True, check=False, timeout=10
    )
    return done.returncode


def test_it_says_what_is_missing(image: Rehearsal) -> None:
    """Without secrets, the sidecar exits with 2 and prints the command that makes them."""
    done = subprocess.run(
        _confined(["sidecar", "run"]),
        env=_environment(image),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 2
    assert "openssl rand -base64 48" in done.stdout + done.stderr
