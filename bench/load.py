"""Load on one port for a short time, and the figures that the program reports that makes it.

Owns the command line of wrk, and the output of all such programs. Must not know what is measured.
"""

from __future__ import annotations

import resource
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bench.children import PATIENCE, pinned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.mixed import Mix

SCRIPT = Path(__file__).with_name("wrk.lua")
LATE_SECONDS = 20  # after which a response counts as an error, as one that never comes does


class LoadError(Exception):
    """The program that makes load failed or did not print a result."""


class Load(msgspec.Struct, frozen=True):
    """The figures of a burst: times in µs, errors by kind (`status`: responses of 400 or above).

    `client_us` is the CPU time of the program that made the load, `late_us` the 99th percentile of
    how late it sent what it had to send at a fixed rate.
    """

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
    p999_us: int = 0
    late_us: int = 0
    client_us: int = 0

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
    `seconds` is the limit. With a `mix`, the requests are those of the mix; if it has a count, the
    burst ends with the last of them.
    """

    port: int
    path: str
    method: str
    headers: Sequence[str]
    body_size: int
    connections: int
    seconds: int
    rotation: Rotation | None = None
    mix: Mix | None = None
    tls: bool = False

    def argv(self) -> list[str]:
        """The command line of wrk."""
        wrk = ["wrk", "-t1", f"-c{self.connections}", f"-d{self.seconds}s"]
        wrk += ["--timeout", f"{LATE_SECONDS}s", "-s", str(SCRIPT)]
        url = f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}{self.path}"
        if self.mix is not None:
            return [*wrk, url, "--", "mixed", *self.mix.arguments()]
        headers = [part for line in self.headers for part in ("-H", line)]
        turns = self.rotation
        rotation = [] if turns is None else [str(turns.file), str(turns.first), str(turns.count)]
        return [*wrk, *headers, url, "--", self.method, str(self.body_size), *rotation]


def parse_output(text: str) -> Load:
    """The result in the output of a program. Raises LoadError if there is none."""
    for line in text.splitlines():
        if line.startswith("{"):
            return msgspec.json.decode(line, type=Load)
    raise LoadError(f"no result in the output: {text.strip()[-300:]!r}")


def run(burst: Burst, *, cpu: int | None = None) -> Load:
    """Run wrk. Raises LoadError if it fails, hangs or does not use all tokens of a rotation."""
    found = run_program(burst.argv(), burst.seconds, cpu=cpu)
    if burst.rotation is not None and found.requests != burst.rotation.count:
        msg = f"only {found.requests} of {burst.rotation.count} requests in {burst.seconds} s"
        raise LoadError(msg)
    return found


def run_program(argv: Sequence[str], seconds: int, *, cpu: int | None) -> Load:
    """Run a program that makes load. Raises LoadError if it fails or hangs."""
    name, before = argv[0], children_us()
    try:
        done = subprocess.run(
            [*pinned(cpu), *argv],
            capture_output=True,
            text=True,
            timeout=seconds + PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"{name} did not end within {PATIENCE:g} s after its time") from error
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip()
        raise LoadError(f"{name} ended with status {done.returncode}: {said}")
    found = parse_output(done.stdout)
    return msgspec.structs.replace(found, client_us=children_us() - before)


def children_us() -> int:
    """CPU time of the ended children of this process, in µs."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((ended.ru_utime + ended.ru_stime) * 1e6)
