"""The commands in README.md do what the page says: those of the demo and of the first setup.

Both blocks are run as printed, except that they use free ports.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from sidecar.demo.stack import guide
from tests.deploy.manifests import ROOT
from tests.docs.pages import blocks
from tests.peers.redis_server import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

README: Final = ROOT / "README.md"
ADDRESS: Final = "http://127.0.0.1:5005"
APPLICATION: Final = "8080"
DEMO, START = (block.text for block in blocks(README) if block.language == "bash")
LARGEST_PICTURE: Final = 100_000  # bytes

pytestmark = pytest.mark.needs("bash", "curl")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address that the demo prints when it is started on free ports."""
    command = ["demo", "--port", "0", "--admin-port", "0", "--app-port", "0"]
    with subprocess.Popen(
        [sys.executable, "-m", "sidecar", *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            found = (re.search(r"(http://\S+)/ +in a browser", line) for line in process.stdout)
            yield next(match[1] for match in found if match)
        finally:
            process.terminate()
            process.communicate(timeout=20)


def expected(script: str) -> list[str]:
    """The status that the comment of each `curl -i` line states."""
    return re.findall(r"(?m)^curl -i .*# (\d{3})", script)


def statuses(output: str) -> list[str]:
    """The status of each response that `curl -i` printed."""
    return re.findall(r"(?m)^HTTP/1\.1 (\d{3})", output)


def test_the_demo_answers_as_printed(address: str, tmp_path: Path) -> None:
    """Each curl command of the demo gets the status in its comment."""
    script = f"set -euo pipefail\n{DEMO.replace(ADDRESS, address)}"
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert statuses(done.stdout) == expected(DEMO)
    assert "Hello, alice" in done.stdout


def test_the_demo_prints_the_same_commands() -> None:
    """README.md and the guide that `make run` prints show the same commands."""

    def commands(text: str) -> list[str]:
        joined = re.sub(r"\s*\\\n\s*", " ", text)
        lines = (re.sub(r"\s+#.*", "", line).strip() for line in joined.splitlines())
        return [line for line in lines if line.startswith(("curl ", "TOKEN="))]

    assert commands(DEMO) == commands(guide(ADDRESS, "http://127.0.0.1:9105"))


@pytest.mark.needs("openssl")
def test_the_first_configuration_lets_a_user_in(tmp_path: Path) -> None:
    """In an empty folder without Redis, the printed commands lead to a successful login."""
    script = START.replace(ADDRESS, f"http://127.0.0.1:{free_port()}")
    script = re.sub(rf"\b{APPLICATION}\b", str(free_port()), script)
    listen = re.findall(r"127\.0\.0\.1:\d+(?=/auth/login)", script)
    code, output = run_afresh(
        script, tmp_path, {"LISTEN": listen[0], "ADMIN_LISTEN": f"127.0.0.1:{free_port()}"}
    )
    assert code == 0, output
    assert expected(START) == ["401", "200"]
    assert statuses(output) == expected(START)
    assert "Hello from the application" in output
    assert "Redis" not in output, "SESSION_STORE=local must be enough"
    assert re.search(r'"message": ?"stopped"', output), "the last line must end the sidecar"


def run_afresh(script: str, folder: Path, settings: dict[str, str]) -> tuple[int, str]:
    """Run a script with only `sidecar` and system programs on the path.

    Returns its exit status and what it printed. All processes that it started are killed.
    """
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(folder)}
    log = folder.parent / f"{folder.name}.log"
    with log.open("wb") as output:
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", f"{script}\nwait"],
            cwd=folder,
            env=environment | settings,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = shell.wait(50)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
            shell.wait(10)
    return code, log.read_text("utf-8")


def test_pictures_are_there_and_small() -> None:
    """Each picture in README.md exists and is smaller than the limit."""
    pictures = re.findall(r'<img src="([^"]+)"[^>]* alt="[^"]+"', README.read_text("utf-8"))
    assert pictures
    for picture in pictures:
        content = (ROOT / picture).read_bytes()
        assert content.startswith(b"\x89PNG\r\n")
        assert len(content) < LARGEST_PICTURE
