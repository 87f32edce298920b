"""Many idle keep-alive connections: each sends one request, is held open, and sends another.

Owns the client side. Must not know which proxy is on the other side.
"""

from __future__ import annotations

import contextlib
import resource
import selectors
import socket
from typing import TYPE_CHECKING

from bench.children import PATIENCE
from bench.scenarios import SMALL_BODY

if TYPE_CHECKING:
    from collections.abc import Iterator

SPARE_FILES = 1000


class HoldError(Exception):
    """A connection was refused, broke or returned a wrong response."""


def raise_file_limit(connections: int) -> None:
    """Raise the limit on open files of this process and its children.

    Raises HoldError if the hard limit does not allow it.
    """
    need = connections + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= need:
        return
    try:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (max(need, min(hard, 2 * need)), max(need, hard))
        )
    except (ValueError, OSError) as error:
        raise HoldError(
            f"{need} open files are needed, but only {hard} are allowed: raise `ulimit -Hn`"
        ) from error


def ask(connection: socket.socket, request: bytes) -> None:
    """Send a request and read its response. Raises HoldError unless it is the 200 of small GETs."""
    connection.sendall(request)
    answer = b""
    while not answer.endswith(SMALL_BODY):
        piece = connection.recv(4096)
        if not piece:
            raise HoldError(f"closed after {answer[:120]!r}")
        answer += piece
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise HoldError(f"unexpected response: {answer[:120]!r}")


@contextlib.contextmanager
def held(port: int, token: str, count: int) -> Iterator[list[socket.socket]]:
    """Open `count` connections, and send one request on each."""
    request = small_request(token)
    with contextlib.ExitStack() as stack:
        connections = []
        for number in range(count):
            try:
                connection = socket.create_connection(("127.0.0.1", port), PATIENCE)
                connections.append(stack.enter_context(connection))
                ask(connection, request)
            except OSError as error:
                raise HoldError(f"connection {number + 1} of {count}: {error}") from error
        yield connections


def require_open(connections: list[socket.socket]) -> None:
    """Raise HoldError if the other side has closed one of these idle connections."""
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ)
        closed = len(selector.select(0))
    if closed:
        raise HoldError(f"{closed} of {len(connections)} idle connections were closed")


def ask_all(connections: list[socket.socket], token: str) -> int:
    """Send a request on every connection; returns how many got the right response."""
    request = small_request(token)
    answered = 0
    for connection in connections:
        with contextlib.suppress(OSError, HoldError):
            ask(connection, request)
            answered += 1
    return answered


def small_request(token: str) -> bytes:
    """The request for the small body."""
    return f"GET / HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
