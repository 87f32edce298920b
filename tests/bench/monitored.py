"""What each client sends to a Redis, as MONITOR shows it, in a form that can be compared."""

from __future__ import annotations

import re
import threading
import time
from collections import defaultdict
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Final, Self

import redis

if TYPE_CHECKING:
    from collections.abc import Callable

Found = dict[str, list[str]]

_PATIENCE: Final = 20.0  # seconds that a condition may take to become true
_END: Final = "the monitor may end"
_OWN: Final = ("PEXPIRE", "ECHO")  # what the tests themselves send
_TIME: Final = re.compile(r"\d+\.\d+$")  # it differs between two clients that do the same


class Monitor:
    """Records the commands of every connection while it is entered, except `_OWN`."""

    def __init__(self, port: int) -> None:
        self._client = redis.Redis(port=port)
        self._seen: list[tuple[str, str, float]] = []
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __repr__(self) -> str:
        return f"<Monitor, {len(self._seen)} commands>"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(_PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.echo(_END)
        self._thread.join(_PATIENCE)
        self._client.close()

    def change(self, token: str) -> None:
        """Change the session under this token id, but not what it says."""
        assert self._client.pexpire(f"session:token:{token}", 3_600_000)

    def wait_for(self, is_true: Callable[[Found], bool]) -> Found:
        """The commands of each connection, as soon as they are as wanted."""
        end = time.monotonic() + _PATIENCE
        while not is_true(found := self.found()):
            assert time.monotonic() < end, found
            time.sleep(0.02)
        return found

    def found(self) -> Found:
        """The commands of each connection, in their order."""
        found: Found = defaultdict(list)
        for client, command, _ in list(self._seen):
            found[client].append(command)
        return dict(found)

    def interval(self, command: str) -> float:
        """The median of the seconds between two such commands of one connection."""
        found: dict[str, list[float]] = defaultdict(list)
        for client, text, at in list(self._seen):
            if text == command:
                found[client].append(at)
        return median(
            after - before for times in found.values() for before, after in pairwise(times)
        )

    def _listen(self) -> None:
        with self._client.monitor() as monitor:  # type: ignore[no-untyped-call]  # redis-py's gap
            self._started.set()
            for each in monitor.listen():
                text = _TIME.sub("<time>", each["command"])
                if _END in text:
                    return
                client = f"{each['client_address']}:{each['client_port']}"
                if not text.startswith(_OWN):
                    self._seen.append((client, text, float(each["time"])))


def counted(found: Found, command: str) -> int:
    """How many commands begin like this."""
    return sum(each.startswith(command) for commands in found.values() for each in commands)


def shapes(found: Found) -> list[list[str]]:
    """What each connection sent, without names, and with only the first of its pings.

    How many pings there are depends on the time.
    """
    return sorted(
        [
            each
            for number, each in enumerate(commands)
            if each != "PING" or "PING" not in commands[:number]
        ]
        for commands in found.values()
    )
