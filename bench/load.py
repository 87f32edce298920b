"""Load by wrk: one short burst against one port, and the figures that wrk reports.

Owns wrk's command line and output. Must not know what is measured.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bench.children import pinned

if TYPE_CHECKING:
    from collections.abc import Sequence

SCRIPT = Path(__file__).with_name("wrk.lua")
GRACE_SECONDS = 20


class LoadError(Exception):
    """wrk failed or did not print a result."""


class Load(msgspec.Struct, frozen=True):
    """The figures of a burst: times in µs, errors by kind (`status`: responses of 400 or above)."""

    requests: int
    duration_us: int
    bytes: int
    p50_us: int
    p99_us: int
    connect: int
    read: int
    write: int
    timeout: int
    status: int

    @property
    def per_second(self) -> float:
        """Requests per second."""
        return self.requests / self.duration_us * 1e6 if self.duration_us else 0.0

    def errors(self, *, denied: bool) -> int:
        """The number of failed requests; with `denied`, requests that were *not* denied failed."""
        status = self.requests - self.status if denied else self.status
        return self.connect + self.read + self.write + self.timeout + status


@dataclass(frozen=True, slots=True)
class Rotation:
    """Tokens from a file with one per line, in order: `count` of them, from index `first` on."""

    file: Path
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Burst:
    """The load: one request, repeated on `connections` connections for whole seconds.

    With a `rotation`, each request has the next token, and the burst ends with the last one. Then
    `seconds` is the limit.
    """

    port: int
    path: str
    method: str
    headers: Sequence[str]
    body_size: int
    connections: int
    seconds: int
    rotation: Rotation | None = None

    def argv(self) -> list[str]:
        """The command line of wrk."""
        headers = [part for line in self.headers for part in ("-H", line)]
        turns = self.rotation
        rotation = [] if turns is None else [str(turns.file), str(turns.first), str(turns.count)]
        return [
            *(
                "wrk",
                "-t1",
                f"-c{self.connections}",
                f"-d{self.seconds}s",
                "-s",
                str(SCRIPT),
                *headers,
            ),
            *(f"http://127.0.0.1:{self.port}{self.path}", "--", self.method, str(self.body_size)),
            *rotation,
        ]


def parse_output(text: str) -> Load:
    """The result in the output of wrk. Raises LoadError if there is none."""
    for line in text.splitlines():
        if line.startswith("{"):
            return msgspec.json.decode(line, type=Load)
    raise LoadError(f"no result in wrk's output: {text.strip()[-300:]!r}")


def run(burst: Burst, *, cpu: int | None = None) -> Load:
    """Run wrk. Raises LoadError if it fails, hangs or does not use all tokens of a rotation."""
    try:
        done = subprocess.run(
            [*pinned(cpu), *burst.argv()],
            capture_output=True,
            text=True,
            timeout=burst.seconds + GRACE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"wrk did not end within {GRACE_SECONDS} s after its time") from error
    if done.returncode:
        msg = (
            f"wrk ended with status {done.returncode}: {done.stderr.strip() or done.stdout.strip()}"
        )
        raise LoadError(msg)
    found = parse_output(done.stdout)
    if burst.rotation is not None and found.requests != burst.rotation.count:
        msg = f"only {found.requests} of {burst.rotation.count} requests in {burst.seconds} s"
        raise LoadError(msg)
    return found
