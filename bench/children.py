"""Child processes of a run: each has a log file and is ended by pid, even after a failure.

Owns spawning, readiness and termination. Must not know what the programs do.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

START_SECONDS = 120.0  # under Valgrind; who dies earlier is noticed at once
STOP_SECONDS = 5.0
STABLE_PORTS = range(20_000, 32_000)  # below net.ipv4.ip_local_port_range
KILL_SECONDS = 1.0  # for the kernel to end killed processes


class StartError(Exception):
    """A program could not be started; the message names it and has the end of its log."""


@dataclass(slots=True)
class Child:
    """A program that was started."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """The pid of the process that was started; its workers are descendants."""
        return self.process.pid

    def __repr__(self) -> str:
        return f"<Child {self.name} pid={self.pid}>"

    def tail(self, lines: int = 12) -> str:
        """The last lines of its log, for messages."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def wait_listening(self, port: int) -> None:
        """Return once `port` accepts connections. Raises StartError if it does not in time."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise StartError(
                    f"{self.name} ended with status {self.process.returncode}:\n{self.tail()}"
                )
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise StartError(f"{self.name} does not listen on port {port}:\n{self.tail()}")

    def stop(self) -> None:
        """Terminate the program, kill it if it does not exit, and kill its whole process group."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        deadline = time.monotonic() + KILL_SECONDS
        with contextlib.suppress(ProcessLookupError):  # raised once the process group is empty
            while time.monotonic() < deadline:
                os.killpg(self.pid, signal.SIGKILL)  # workers that outlived their master
                time.sleep(0.005)


class Children:
    """The programs of a run; the `with` block ends them in reverse order."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._running: list[Child] = []

    def __repr__(self) -> str:
        return f"<Children {[child.name for child in self._running]}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._running:
            self._running.pop().stop()

    def spawn(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cpu: int | None = None,
    ) -> Child:
        """Start a program in a new session, so that Ctrl-C does not reach it; `cpu` pins it."""
        log = self.directory / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*pinned(cpu), *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        child = Child(name, process, log)
        self._running.append(child)
        return child


def pinned(cpu: int | None) -> list[str]:
    """The command prefix that pins a program to one CPU."""
    return [] if cpu is None else ["taskset", "-c", str(cpu)]


def free_port() -> int:
    """A loopback port on which nothing listens at the moment.

    The kernel gives none of these ports to outgoing connections and to servers that take any port,
    so it is still free when the program that gets it listens.
    """
    while True:
        port = random.choice(STABLE_PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise KeyboardInterrupt in the block, so that it cleans up."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    previous = {
        number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
