"""The real program as a process of a source tree: this one, or another to compare with.

`SIDECAR_TREE` names the other tree, which has its own `.venv`. Nothing of its code is imported:
only its command line, its environment variables, its answers and its logs are used.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.peers.patience import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

HERE: Final = Path(__file__).parents[2]
TREE: Final = Path(os.environ.get("SIDECAR_TREE") or HERE).resolve()
PYTHON: Final = sys.executable if TREE == HERE else str(TREE / ".venv/bin/python")
_START: Final = 20.0  # seconds


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended: its exit code and what it printed."""

    code: int
    output: str
    errors: str


async def run(*argv: str, stdin: str = "", environ: Mapping[str, str] | None = None) -> Ended:
    """Run a command in the tree to its end; `sidecar` as the first word is the tree's program."""
    words = [PYTHON, "-m", *argv] if argv[0] == "sidecar" else argv
    child = await asyncio.create_subprocess_exec(
        *words,
        cwd=TREE,
        env={**os.environ, **(environ or {})},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_START):
            output, errors = await child.communicate(stdin.encode())
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode is not None
    return Ended(child.returncode, output.decode(), errors.decode())


@dataclass(slots=True)
class Program:
    """A running `sidecar run`; its log lines are collected in a file of its folder."""

    log: Path
    child: asyncio.subprocess.Process
    port: int = 0
    admin_port: int = 0

    def __repr__(self) -> str:
        return f"<Program on {self.port} of {TREE}>"

    def lines(self) -> list[dict[str, Any]]:
        """Return the log lines so far; the last may be incomplete and is left out then."""
        complete = self.log.read_bytes().rpartition(b"\n")[0]
        return [json.loads(line) for line in complete.splitlines()]

    async def line(self, wanted: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Wait for a log line for which this is true, and return it. TimeoutError without it."""
        await until(lambda: any(wanted(line) for line in self.lines()))
        return next(line for line in self.lines() if wanted(line))


@contextlib.asynccontextmanager
async def program(folder: Path, environ: Mapping[str, str]) -> AsyncIterator[Program]:
    """Run the program with `sidecar.toml` of this folder, from when it listens until killed.

    AssertionError with what it printed if it does not start.
    """
    log, errors = folder / "log", folder / "errors"
    with log.open("wb") as output, errors.open("wb") as faults:
        child = await asyncio.create_subprocess_exec(
            *(PYTHON, "-m", "sidecar", "run", "--config", str(folder / "sidecar.toml")),
            cwd=TREE,
            env={**os.environ, **environ},
            stdout=output,
            stderr=faults,
        )
    running = Program(log, child)

    def begun() -> bool:
        if child.returncode is not None:
            raise AssertionError(f"does not start: {log.read_text()}{errors.read_text()}")
        return any(line["message"] == "listening" for line in running.lines())

    try:
        await until(begun, _START)
        line = next(line for line in running.lines() if line["message"] == "listening")
        running.port, running.admin_port = line["port"], line["admin_port"]
        yield running
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
