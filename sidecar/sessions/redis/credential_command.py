"""Runs the command that prints Redis' credential: no shell, no error output, limited time and size.

It runs in a thread, because starting a process blocks. Does not know what the output means.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from sidecar.sessions.redis.credentials import CredentialError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TIMEOUT: Final = 10.0  # seconds
LARGEST: Final = 65536  # bytes of output; the largest tokens have a few thousand
# Seconds between two runs if the output does not say when it ends: a third of the shortest lifetime
# in use, the 15 minutes of an IAM token for ElastiCache.
INTERVAL: Final = 300.0
_SLICE: Final = 0.05  # seconds until a cancelled or ended command is noticed


class CredentialCommand:
    """The command `argv`, run with `environment`. Its standard error is discarded, not logged.

    It must end with status 0 within `timeout` seconds. Otherwise it is killed, with the processes
    that it started.
    """

    fetched_on_connect = False
    name = "redis_password_command"

    def __init__(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        *,
        timeout: float = TIMEOUT,
        interval: float = INTERVAL,
    ) -> None:
        self._argv = tuple(argv)
        self._environment = dict(environment)
        self._timeout = timeout
        self.interval = interval

    def __repr__(self) -> str:
        return f"<CredentialCommand {self._argv[0]}>"

    async def fetch(self) -> str:
        """What the command prints. Raises CredentialError. If cancelled, the command is killed."""
        cancelled = threading.Event()
        try:
            output = await asyncio.to_thread(self._run, cancelled)
        finally:
            cancelled.set()
        try:
            return output.decode()
        except UnicodeDecodeError:
            raise CredentialError("expected UTF-8 text") from None

    def _run(self, cancelled: threading.Event) -> bytes:
        try:
            process = subprocess.Popen(  # noqa: S603 (the configuration names it)
                self._argv,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise CredentialError(f"cannot be executed: {error.strerror}") from None
        except ValueError:  # a NUL byte
            raise CredentialError("cannot be executed: invalid argument") from None
        try:
            output = self._read(process, cancelled)
        finally:
            # Before `wait`: until then the group's number belongs to no other process.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
            if process.stdout is not None:
                process.stdout.close()
        if status:
            raise CredentialError(
                f"ended with status {status}" if status > 0 else f"was killed by signal {-status}"
            )
        return output

    def _read(self, process: subprocess.Popen[bytes], cancelled: threading.Event) -> bytes:
        """The output, once the process has ended. Raises CredentialError."""
        deadline = time.monotonic() + self._timeout
        output = bytearray()
        poller = select.poll()  # `select` has no descriptor above 1023
        pipe = process.stdout.fileno() if process.stdout is not None else -1
        poller.register(pipe, select.POLLIN)
        closed = False
        while True:
            if cancelled.is_set():
                raise CredentialError("was cancelled")
            if time.monotonic() >= deadline:
                raise CredentialError(f"took longer than {self._timeout:g} s")
            ended = _has_ended(process.pid)
            if closed:
                if ended:
                    return bytes(output)
                cancelled.wait(_SLICE)
            elif poller.poll(0 if ended else _SLICE * 1000):
                piece = os.read(pipe, LARGEST + 1 - len(output))
                closed = not piece
                output += piece
                if len(output) > LARGEST:
                    raise CredentialError(f"printed more than {LARGEST} bytes")
            elif ended:  # a process that it left behind holds the pipe
                return bytes(output)


def _has_ended(pid: int) -> bool:
    """Whether the process has ended. It stays a zombie, so that its number is not used again."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
