"""How long a revoked token is still accepted: one logout, then requests until each is refused.

Owns the connections and the clock. Uses one thread and a selector, so that its own cost does not
distort the measurement.
"""

from __future__ import annotations

import selectors
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.children import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Sequence

ALLOWED, DENIED, LOGGED_OUT = 200, 401, 204


class PollError(Exception):
    """A response is missing or unexpected; the message describes it."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """One logout: seconds from its response to each first 401, and requests allowed until then."""

    delays: list[float]
    let_in: int


class Line:
    """A keep-alive connection with at most one request in progress."""

    def __init__(self, port: int) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __repr__(self) -> str:
        return f"<Line, {len(self._buffer)} bytes of an answer>"

    def fileno(self) -> int:
        """The file descriptor, for a selector."""
        return self._connection.fileno()

    def send(self, request: bytes) -> None:
        """Send one request."""
        self._connection.sendall(request)

    def receive(self) -> int | None:
        """The status, once the response is complete. Raises PollError if it cannot complete."""
        piece = self._connection.recv(65536)
        if not piece:
            raise PollError(f"closed after {self._buffer[:120]!r}")
        self._buffer += piece
        found = parse(self._buffer)
        if found is None:
            return None
        status, size = found
        self._buffer = self._buffer[size:]
        return status

    def ask(self, request: bytes) -> int:
        """Send one request, and return the status of its response."""
        self.send(request)
        while (status := self.receive()) is None:
            pass
        return status

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def parse(answer: bytes) -> tuple[int, int] | None:
    """The status and size of a complete response; None if it is incomplete.

    Raises PollError if only the end of the connection would end the response.
    """
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return None
    status = int(head[9:12])
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name == b"content-length":
            length = int(value)
        elif name == b"transfer-encoding" or (name == b"connection" and b"close" in value.lower()):
            raise PollError(f"expected a length and a connection kept open, got {line!r}")
    return (status, len(head) + len(end) + length) if len(body) >= length else None


def verify(token: str) -> bytes:
    """A request that is answered 200 if the token is accepted."""
    return request("GET /auth/verify", token)


def logout(token: str) -> bytes:
    """A logout request."""
    return request("POST /auth/logout", token, "Content-Length: 0\r\n")


def request(line: str, token: str, more: str = "") -> bytes:
    """A request with a bearer token."""
    text = f"{line} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n{more}\r\n"
    return text.encode()


def revoke(token: str, origin: Line, others: Sequence[Line]) -> Revoked:
    """Log out at `origin`, then query all `others` continuously until each answers 401."""
    status = origin.ask(logout(token))
    answered = time.monotonic()
    if status != LOGGED_OUT:
        raise PollError(f"the logout got status {status}")
    delays: list[float] = []
    question, let_in = verify(token), 0
    with selectors.DefaultSelector() as selector:
        for line in others:
            selector.register(line, selectors.EVENT_READ, line)
            line.send(question)
        while len(delays) < len(others):
            for key, _ in selector.select(PATIENCE):
                line = key.data
                status = line.receive()
                now = time.monotonic()
                if status == DENIED:
                    delays.append(now - answered)
                    selector.unregister(line)
                elif status == ALLOWED:
                    let_in += 1
                    line.send(question)
                elif status is not None:
                    raise PollError(f"a request with a revoked token got status {status}")
            if time.monotonic() - answered > PATIENCE:
                raise PollError(f"a revoked token is still accepted after {PATIENCE:g} s")
    return Revoked(delays, let_in)
