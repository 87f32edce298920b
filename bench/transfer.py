"""Large bodies on one connection: a simple blocking client that counts bytes.

Owns the client side of an upload or download. Must not know what is in front of the upstream.
"""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Self

from bench import usage

if TYPE_CHECKING:
    from collections.abc import Sequence

CHUNK = b"x" * (256 << 10)
STALL_SECONDS = 1.0
TIMEOUT_SECONDS = 120.0
SAMPLE_SECONDS = 0.01


class TransferError(Exception):
    """A transfer broke off, or its response was wrong."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """A finished transfer: the bytes of its body and its duration."""

    size: int
    seconds: float

    @property
    def mib_per_second(self) -> float:
        """The speed, including pauses."""
        return self.size / (1 << 20) / self.seconds


class RssSampler:
    """The highest RSS of some processes during the `with` block, sampled every 10 ms."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = list(pids)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="rss-sampler", daemon=True)
        self.start = self.peak = usage.rss(self._pids)

    def __repr__(self) -> str:
        return f"<RssSampler start={self.start} peak={self.peak}>"

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            self.peak = max(self.peak, usage.rss(self._pids))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.peak = max(self.peak, usage.rss(self._pids))

    @property
    def growth(self) -> int:
        """Bytes by which the peak exceeded the start."""
        return self.peak - self.start


def request_head(method: str, path: str, token: str, framing: str = "") -> bytes:
    """The head of a request; `framing` is the header line for its body."""
    lines = [f"{method} {path} HTTP/1.1", "Host: bench", f"Authorization: Bearer {token}"]
    lines += [framing] if framing else []
    return ("\r\n".join([*lines, "Connection: close"]) + "\r\n\r\n").encode()


def connect(port: int) -> socket.socket:
    """Open a blocking connection with a timeout."""
    return socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)


def upload(port: int, token: str, size: int, *, chunked: bool = False) -> Transfer:
    """POST `size` bytes to /sink. Raises TransferError unless the upstream counted all of them."""
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
    started = time.monotonic()
    with connect(port) as connection:
        connection.sendall(request_head("POST", "/sink", token, framing))
        left = size
        while left:
            piece = CHUNK[:left]
            left -= len(piece)
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            connection.sendall(b"0\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    if not answer.startswith(b"HTTP/1.1 200 ") or not answer.endswith(b"\r\n\r\n%d" % size):
        raise TransferError(f"upload of {size} bytes got the response {answer[:200]!r}")
    return Transfer(size, time.monotonic() - started)


def download(port: int, token: str, size: int, *, chunked: bool = False) -> Transfer:
    """GET `size` bytes, with a pause in which all buffers fill up. Raises TransferError."""
    path = f"/download/{size}{'?chunked' if chunked else ''}"
    started = time.monotonic()
    with connect(port) as connection, connection.makefile("rb") as stream:
        connection.sendall(request_head("GET", path, token))
        head = list(iter(stream.readline, b"\r\n"))
        time.sleep(STALL_SECONDS)
        total = read_chunked(stream) if chunked else discard(stream, size)
    if not head or not head[0].startswith(b"HTTP/1.1 200 ") or total != size:
        raise TransferError(f"download of {size} bytes returned {total} after {head[:1]}")
    return Transfer(size, time.monotonic() - started)


def discard(stream: BinaryIO, size: int) -> int:
    """Read up to `size` bytes; returns how many arrived before the end."""
    total = 0
    while total < size and (piece := stream.read(min(size - total, 1 << 20))):
        total += len(piece)
    return total


def read_chunked(stream: BinaryIO) -> int:
    """Read a chunked body (RFC 9112 section 7.1); returns its length."""
    total = 0
    while size := int(stream.readline(), 16):
        total += discard(stream, size)
        stream.readline()
    return total
