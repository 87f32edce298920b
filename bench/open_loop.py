"""Load at a fixed rate, whatever the responses: `python -m bench.open_loop PORT RATE …`.

Owns the schedule and the clock. Requests fall due as those of many independent clients do, and a
latency counts from the moment at which its request was due. So a proxy that stands still cannot
hide the requests that had to wait meanwhile (coordinated omission).
"""

from __future__ import annotations

import gc
import random
import select
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bench.load import Load
from bench.mixed import Mix
from bench.polling import PollError, parse

if TYPE_CHECKING:
    from collections.abc import Sequence

GRACE_SECONDS = 20.0  # for the responses that are missing when the time is over
RECEIVE = 65536


@dataclass(slots=True)
class Tally:
    """What has happened: seconds from when a request was due, and errors by kind."""

    latencies: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    size: int = 0
    broken: int = 0
    refused: int = 0


class Connection:
    """A keep-alive connection with at most one request in progress; it opens again if it broke."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.free_since = time.perf_counter()
        self.due = 0.0
        self._buffer = b""
        self._open()

    def __repr__(self) -> str:
        return f"<Connection to port {self._port}, {len(self._buffer)} bytes of an answer>"

    def _open(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self._port), GRACE_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fileno(self) -> int:
        """The file descriptor, for select."""
        return self._socket.fileno()

    def send(self, request: bytes, due: float) -> None:
        """Send a request that was due at this time. Raises OSError."""
        self.due, self._buffer = due, b""
        self._socket.sendall(request)

    def receive(self) -> tuple[int, int] | None:
        """The status and size of the response when it is complete. Raises PollError, OSError."""
        piece = self._socket.recv(RECEIVE)
        if not piece:
            raise PollError("closed")
        self._buffer += piece
        return parse(self._buffer)

    def reopen(self) -> None:
        """Replace the connection. Raises OSError."""
        self.close()
        self._open()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def schedule(rate: float, seconds: float, rng: random.Random) -> list[float]:
    """When the requests fall due, in seconds from the start: a Poisson process of this rate."""
    times, at = [], rng.expovariate(rate)
    while at < seconds:
        times.append(at)
        at += rng.expovariate(rate)
    return times


class Loop:
    """The connections of a run, and what has happened on them."""

    def __init__(self, port: int, connections: int) -> None:
        self.tally = Tally()
        self._all = [Connection(port) for _ in range(connections)]
        self._idle = deque(self._all)
        self._busy: set[Connection] = set()

    def __repr__(self) -> str:
        return f"<Loop of {len(self._all)} connections, {len(self._busy)} busy>"

    def run(self, requests: Sequence[bytes], times: Sequence[float]) -> float:
        """Send each request when it is due, or as soon as a connection is free.

        Returns the seconds that it took. Requests without a connection until the end are not sent.
        """
        idle, busy, at = self._idle, self._busy, 0
        began = time.perf_counter()
        ends = began + max(times, default=0.0) + GRACE_SECONDS
        while (at < len(times) or busy) and (now := time.perf_counter()) < ends:
            while idle and at < len(times) and began + times[at] <= now:
                self._dispatch(requests[at], began + times[at])
                at += 1
            until = began + times[at] if idle and at < len(times) else ends
            for line in select.select(busy, (), (), max(0.0, until - time.perf_counter()))[0]:
                self._collect(line)
        took = time.perf_counter() - began
        for line in self._all:
            line.close()
        return took

    def _dispatch(self, request: bytes, due: float) -> None:
        """Send a request on a free connection."""
        line = self._idle.popleft()
        self.tally.late.append(time.perf_counter() - max(due, line.free_since))
        try:
            line.send(request, due)
        except OSError:
            self._broken(line)
        else:
            self._busy.add(line)

    def _collect(self, line: Connection) -> None:
        """Read from a connection; if its response is complete, count it and free it."""
        try:
            found = line.receive()
        except (OSError, PollError):
            self._busy.discard(line)
            self._broken(line)
            return
        if found is None:
            return
        line.free_since = time.perf_counter()
        self.tally.latencies.append(line.free_since - line.due)
        self.tally.size += found[1]
        self.tally.refused += found[0] >= 400
        self._busy.discard(line)
        self._idle.append(line)

    def _broken(self, line: Connection) -> None:
        """Count a request that got no response, and open its connection again."""
        self.tally.broken += 1
        line.reopen()
        line.free_since = time.perf_counter()
        self._idle.append(line)


def run(port: int, requests: Sequence[bytes], times: Sequence[float], connections: int) -> Load:
    """Send the requests at these times, in seconds from the start."""
    loop = Loop(port, connections)
    gc.collect()
    gc.disable()
    took = loop.run(requests, times)
    gc.enable()
    return figures(loop.tally, len(times), took)


def figures(tally: Tally, planned: int, took: float) -> Load:
    """The figures; requests without a response count as timeouts, unless their connection broke."""
    ordered, late = sorted(tally.latencies), sorted(tally.late)
    answered = len(ordered)
    return Load(
        requests=answered,
        duration_us=int(took * 1e6),
        bytes=tally.size,
        p50_us=percentile(ordered, 0.5),
        p99_us=percentile(ordered, 0.99),
        connect=0,
        read=tally.broken,
        write=0,
        timeout=planned - answered - tally.broken,
        status=tally.refused,
        p999_us=percentile(ordered, 0.999),
        late_us=percentile(late, 0.99),
    )


def percentile(ordered: Sequence[float], share: float) -> int:
    """The value below which this share of the sorted seconds is, in µs; 0 if there are none."""
    return int(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e6) if ordered else 0


def argv(port: int, rate: float, seconds: int, connections: int, mix: Mix) -> list[str]:
    """The command line of this program."""
    numbers = [str(port), f"{rate:.3f}", str(seconds), str(connections)]
    return [sys.executable, "-m", "bench.open_loop", *numbers, *mix.arguments()]


def main(arguments: Sequence[str]) -> None:
    """Run with the arguments that `argv` makes, and print the figures."""
    port, rate, seconds, connections, *files, seed, count = arguments
    template, lines, targets = map(Path, files)
    mix = Mix(template, lines, targets, int(seed), int(count))
    times = schedule(float(rate), float(seconds), random.Random(mix.seed))
    done = run(int(port), mix.requests(len(times)), times, int(connections))
    sys.stdout.write(f"{msgspec.json.encode(done).decode()}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
