"""Many connections with unfinished requests: what each of them costs the sidecar's memory.

Owns the client side and the requests. Must not know how the sidecar limits them.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING

from bench import sidecar, usage, vitals
from bench.children import PATIENCE
from bench.holding import HoldError
from bench.outcome import Outcome
from bench.transfer import RssSampler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.lab import Lab

KIB = 1024
LIMIT = 8 * KIB  # bytes for each connection
ROUND_SECONDS = 0.1
WARM_UP = 200  # connections whose memory is not counted: buffers and caches that all share
HOST = b" HTTP/1.1\r\nHost: bench\r\n"
LONG = b"X-Padding: " + b"a" * 30 * KIB
LOGIN = b"POST /auth/login" + HOST + b"Content-Type: application/json\r\n"
BEARER = b"Authorization: Bearer @TOKEN@\r\n"

# What each connection sends, and then it sends nothing more.
PARTS = {
    "nothing": b"",
    "part of a small head": b"GET /" + HOST,
    "part of a head, 30 KiB": b"GET /" + HOST + LONG,
    "login without its body": LOGIN + b"Content-Length: 60\r\n\r\n",
    "login with a long head": LOGIN + LONG + b"\r\nContent-Length: 60\r\n\r\n",
    "login, 30 KiB of its body": LOGIN + b"Content-Length: 40000\r\n\r\n" + b"a" * 30 * KIB,
    "upload with a long head": (
        b"POST /sink" + HOST + BEARER + LONG + b"\r\nContent-Length: 60\r\n\r\n"
    ),
    "a request of 8 KiB, then idle": (
        b"GET /" + HOST + b"Authorization: Bearer " + b"a" * 7900 + b"\r\n\r\n"
    ),
}


@contextlib.contextmanager
def opened(port: int, count: int, part: bytes) -> Iterator[None]:
    """Open `count` connections, each of which sends this part; all close at the end."""
    with contextlib.ExitStack() as stack:
        for number in range(count):
            try:
                connection = socket.create_connection(("127.0.0.1", port), PATIENCE)
                stack.enter_context(connection)
                connection.sendall(part)
            except OSError as error:
                raise HoldError(f"connection {number + 1} of {count}: {error}") from error
        yield


def wait_read(port: int) -> None:
    """Return once the sidecar has accepted every connection and read everything that was sent."""
    deadline = time.monotonic() + PATIENCE
    while unread := vitals.unread(port):
        if time.monotonic() > deadline:
            raise HoldError(f"the sidecar leaves {unread:,} connections unread")
        time.sleep(ROUND_SECONDS)


def measure(lab: Lab, count: int) -> list[Outcome]:
    """The growth of RSS by each connection; each kind has a new sidecar, which reuses nothing."""
    outcomes = []
    for number, (name, template) in enumerate(PARTS.items()):
        started = sidecar.start(lab, f"sidecar-memory-{number}")
        pids = usage.tree(started.child.pid)
        part = template.replace(b"@TOKEN@", sidecar.login(started.port).encode())
        with (
            opened(started.port, WARM_UP, part),
            RssSampler(pids) as sampler,
            opened(started.port, count, part),
        ):
            wait_read(started.port)
        started.child.stop()
        each = sampler.growth / count
        measured = f"{each / KIB:.1f} KiB each"
        bar = f"under {LIMIT // KIB} KiB"
        outcomes.append(Outcome(f"{count:,} times {name}", measured, bar, each < LIMIT))
    return outcomes
