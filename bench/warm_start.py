"""Starts sidecars by forking from a process that has imported everything: in 50 ms, not in 500.

Run as `python -m bench.warm_start`. Reads a line a command from standard input: `run CONFIG` is
answered with the pid of a new process, whose output goes to `CONFIG.log`; `wait PID` with its exit
code.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Final

from sidecar.cli import main as sidecar_main

# What `sidecar run` imports first, and what it imports where the sessions are in Redis.
MODULES: Final = (
    *(
        "sidecar.cli.serving",
        "sidecar.sessions.redis.connect",
        "sidecar.sessions.revocation.journal_file",
    ),
    *(
        "sidecar.sessions.redis.store",
        "sidecar.sessions.tiered.store",
        "sidecar.sessions.redis.tracking",
    ),
)


def main() -> None:
    """Until the end of standard input."""
    for module in MODULES:
        import_module(module)
    for line in sys.stdin:
        command, argument = line.split()
        answer = run(argument) if command == "run" else wait(int(argument))
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def run(config: str) -> int:
    """Start `sidecar run` with this file; its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        with Path(f"{config}.log").open("ab") as log, Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            code = sidecar_main(["run", "--config", config])
    finally:
        sys.stdout.flush()
        os._exit(code)  # nothing of the parent's is to be cleaned up here


def wait(pid: int) -> int:
    """Its exit code, once it has ended."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    main()
