"""Commands that print a credential: real programs that work, fail, hang or print too much."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sidecar.sessions.redis.credential_command import LARGEST, CredentialCommand
from sidecar.sessions.redis.credentials import CredentialError
from tests.peers.patience import until

if TYPE_CHECKING:
    from collections.abc import Mapping

PASSWORD = "hunter2-hunter2"


def script(text: str, *, timeout: float = 30.0) -> CredentialCommand:
    """A command that runs Python code."""
    return CredentialCommand([sys.executable, "-c", text], dict(os.environ), timeout=timeout)


def shell(text: str, *, environment: Mapping[str, str] | None = None) -> CredentialCommand:
    """A command that runs a shell script."""
    return CredentialCommand(["/bin/sh", "-c", text], environment or {}, timeout=30.0)


def is_running(pid: int) -> bool:
    """Whether this process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def problem_of(command: CredentialCommand) -> str:
    """The message of the error, which never has the password."""
    with pytest.raises(CredentialError) as caught:
        await command.fetch()
    assert PASSWORD not in repr(caught.value)
    assert caught.value.__cause__ is None
    return str(caught.value)


async def test_what_it_prints() -> None:
    """The whole standard output, even if it arrives in pieces."""
    assert await shell("printf pw").fetch() == "pw"
    assert await shell("echo pw").fetch() == "pw\n"
    assert await shell("true").fetch() == ""
    pieces = "import sys, time\nfor _ in range(3): print('ab', end='', flush=True); time.sleep(.02)"
    assert await script(pieces).fetch() == "ababab"
    assert len(await script(f"print('x' * {LARGEST}, end='')").fetch()) == LARGEST


async def test_no_shell() -> None:
    """An argument reaches the program as it is."""
    command = CredentialCommand(["/bin/echo", "$HOME; echo `id`", "*"], {})
    assert await command.fetch() == "$HOME; echo `id` *\n"


async def test_its_environment() -> None:
    """It gets the given variables and no others."""
    found = await CredentialCommand(["/usr/bin/env"], {"REGION": "eu-1"}).fetch()
    assert found == "REGION=eu-1\n"


async def test_it_reads_nothing() -> None:
    """Its standard input is empty, so it cannot wait for somebody to type."""
    assert await shell("cat; echo done").fetch() == "done\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param(f"echo {PASSWORD}; exit 1", "ended with status 1", id="status"),
        pytest.param(f"echo {PASSWORD}; kill -9 $$", "was killed by signal 9", id="signal"),
        pytest.param("printf '\\377'", "expected UTF-8 text", id="not UTF-8"),
        pytest.param(
            f"yes {PASSWORD} | head -c 5000000", "printed more than 65536 bytes", id="megabytes"
        ),
        pytest.param("yes", "printed more than 65536 bytes", id="no end"),
    ],
)
async def test_failures(text: str, problem: str) -> None:
    """Each has its message, without anything that was printed."""
    assert await problem_of(shell(text)) == problem


async def test_a_program_that_is_missing(tmp_path: Path) -> None:
    """The system's message."""
    missing = CredentialCommand([str(tmp_path / "token")], {})
    assert await problem_of(missing) == "cannot be executed: No such file or directory"
    (tmp_path / "token").write_text("#!/bin/sh\n")
    assert await problem_of(missing) == "cannot be executed: Permission denied"
    assert await problem_of(CredentialCommand(["a\0b"], {})) == (
        "cannot be executed: invalid argument"
    )


async def test_its_errors_are_discarded(capfd: pytest.CaptureFixture[str]) -> None:
    """They may contain secrets, so they reach neither the log nor the process' own output."""
    assert await problem_of(shell(f"echo {PASSWORD} >&2; exit 3")) == "ended with status 3"
    assert await shell(f"echo {PASSWORD} >&2; echo pw").fetch() == "pw\n"
    assert capfd.readouterr() == ("", "")


async def test_a_command_that_hangs(tmp_path: Path) -> None:
    """It is killed after its time, with the processes that it started."""
    file = tmp_path / "pids"
    text = f"sleep 600 & echo $! $$ >{file}; echo {PASSWORD}; wait"
    command = CredentialCommand(["/bin/sh", "-c", text], dict(os.environ), timeout=1.0)
    assert await problem_of(command) == "took longer than 1 s"
    await until(lambda: not any(is_running(int(pid)) for pid in file.read_text().split()))


async def test_a_process_left_behind(tmp_path: Path) -> None:
    """It does not delay the output, and is killed."""
    file = tmp_path / "pid"
    begun = time.monotonic()
    assert await shell(f"sleep 600 & echo $! >{file}; echo pw").fetch() == "pw\n"
    assert time.monotonic() - begun < 20
    await until(lambda: not is_running(int(file.read_text())))


async def test_a_closed_output(tmp_path: Path) -> None:
    """The status counts, also if it comes long after the output."""
    assert await shell("echo pw; exec >&-; sleep 0.2; exit 0").fetch() == "pw\n"
    assert await problem_of(shell("echo pw; exec >&-; sleep 0.2; exit 4")) == "ended with status 4"


async def test_the_loop_keeps_running() -> None:
    """Starting the command and waiting for it does not stop the event loop."""
    fetching = asyncio.create_task(script("import time; time.sleep(0.3); print('pw')").fetch())
    turns = 0
    while not fetching.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert await fetching == "pw\n"
    assert turns > 20


async def test_cancelled(tmp_path: Path) -> None:
    """The command is killed when its caller is cancelled."""
    file = tmp_path / "pid"
    fetching = asyncio.create_task(shell(f"echo $$ >{file}; exec sleep 600").fetch())
    await until(lambda: file.exists() and file.read_text().endswith("\n"))
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    await until(lambda: not is_running(int(file.read_text())))


def test_its_repr() -> None:
    """It names the program; arguments may be private."""
    assert repr(CredentialCommand(["/opt/token", PASSWORD], {})) == (
        "<CredentialCommand /opt/token>"
    )
