"""Load of new TLS connections: `python -m bench.handshakes PORT CONNECTIONS …`.

Each request is sent on a connection of its own, after a full handshake. wrk resumes the sessions of
servers that allow it, which would compare settings instead of servers.
"""

from __future__ import annotations

import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bench.certificate import NAME, unchecked_tls
from bench.children import PATIENCE
from bench.load import Load
from bench.mixed import Mix
from bench.open_loop import percentile
from bench.polling import PollError, parse

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Visit:
    """One connection: its seconds, the status and size of the response, if there was one."""

    seconds: float
    answer: tuple[int, int] | None


def visit(port: int, context: ssl.SSLContext, request: bytes) -> Visit:
    """Open a connection, send a request, read the response and close."""
    began = time.perf_counter()
    try:
        with (
            socket.create_connection(("127.0.0.1", port), PATIENCE) as plain,
            context.wrap_socket(plain, server_hostname=NAME) as connection,
        ):
            found = exchange(connection, request)
    except (OSError, PollError):
        found = None
    return Visit(time.perf_counter() - began, found)


def exchange(connection: ssl.SSLSocket, request: bytes) -> tuple[int, int]:
    """Send a request; returns the status and size of the response. Raises OSError, PollError."""
    connection.sendall(request)
    buffer = b""
    while (found := parse(buffer)) is None:
        piece = connection.recv(65536)
        if not piece:
            raise PollError("closed")
        buffer += piece
    return found


def run(port: int, requests: Sequence[bytes], connections: int) -> Load:
    """Send each request on a new connection, `connections` at a time."""
    context = unchecked_tls()
    began = time.perf_counter()
    with ThreadPoolExecutor(connections) as pool:
        visits = list(pool.map(lambda request: visit(port, context, request), requests))
    took = time.perf_counter() - began
    answers = [one.answer for one in visits if one.answer is not None]
    ordered = sorted(one.seconds for one in visits if one.answer is not None)
    return Load(
        requests=len(answers),
        duration_us=int(took * 1e6),
        bytes=sum(size for _, size in answers),
        p50_us=percentile(ordered, 0.5),
        p99_us=percentile(ordered, 0.99),
        connect=0,
        read=len(visits) - len(answers),
        write=0,
        timeout=0,
        status=sum(status >= 400 for status, _ in answers),
        p999_us=percentile(ordered, 0.999),
    )


def argv(port: int, connections: int, mix: Mix) -> list[str]:
    """The command line of this program; the mix must have a count."""
    return [
        *(sys.executable, "-m", "bench.handshakes"),
        *(str(port), str(connections)),
        *mix.arguments(),
    ]


def main(arguments: Sequence[str]) -> None:
    """Run with the arguments that `argv` makes, and print the figures."""
    port, connections, *files, seed, count = arguments
    template, lines, targets = map(Path, files)
    mix = Mix(template, lines, targets, int(seed), int(count))
    done = run(int(port), mix.requests(mix.count), int(connections))
    sys.stdout.write(f"{msgspec.json.encode(done).decode()}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
