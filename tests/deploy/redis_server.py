"""A real redis-server, started with a given command line and queried with redis-cli."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

READY = 10.0  # seconds, at most


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A running server."""

    port: int
    process: subprocess.Popen[bytes]

    def cli(self, *arguments: str, password: str = "") -> str:
        """Run redis-cli and return its output, including errors of the server."""
        command = ["redis-cli", "-p", str(self.port), *arguments]
        env = {**os.environ, "REDISCLI_AUTH": password} if password else None
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=10, env=env
        )
        return (done.stdout + done.stderr).strip()

    def stop(self) -> int:
        """Send SIGTERM, as a container engine does, and return the exit status."""
        self.process.terminate()
        return self.process.wait(READY)


@contextlib.contextmanager
def redis_server(
    command: Sequence[str], port: int, folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[RedisServer]:
    """Run the command, wait until it listens, and end it on leaving."""
    process = subprocess.Popen(
        list(command),
        cwd=folder,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(port, process)
        yield RedisServer(port, process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(READY)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + READY
    while time.monotonic() < end:
        if process.poll() is not None:
            raise AssertionError(f"redis-server ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise AssertionError("redis-server does not listen")
