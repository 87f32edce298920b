"""A server that records every request, and answers each with given bytes."""

from __future__ import annotations

import contextlib
import socketserver
import threading
import time
from typing import TYPE_CHECKING, BinaryIO, cast

from tests.peers.scripted_upstream import OK

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Iterator


class Recorder(socketserver.ThreadingTCPServer):
    """Listens on a free port of the loopback interface; `answer` may depend on the request.

    `stalls` maps the number of a request to the seconds by which its response is late, `breaks`
    are the numbers of those whose connection ends without a response.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        answer: bytes | Callable[[bytes], bytes] = OK,
        *,
        stalls: dict[int, float] | None = None,
        breaks: frozenset[int] = frozenset(),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._answer = answer if callable(answer) else lambda _request: answer
        self.requests: list[bytes] = []
        self.resumed: list[bool] = []
        self._stalls, self._breaks, self._tls = stalls or {}, breaks, tls
        self._gate = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return self.server_address[1]

    def get_request(self) -> tuple[socket.socket, object]:
        """Accept a connection, with TLS if there is a context."""
        connection, address = super().get_request()
        if self._tls is None:
            return connection, address
        wrapped = self._tls.wrap_socket(connection, server_side=True)
        self.resumed.append(bool(wrapped.session_reused))
        return wrapped, address

    def handle_one(self, stream: BinaryIO, out: BinaryIO) -> bool:
        """Record a request and answer it; returns whether the connection stays open."""
        request = read_request(stream)
        if not request:
            return False
        with self._gate:  # one at a time: a stall holds up all connections
            number = len(self.requests)
            self.requests.append(request)
            time.sleep(self._stalls.get(number, 0.0))
        if number in self._breaks:
            return False
        out.write(self._answer(request))
        return True


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        server = cast("Recorder", self.server)
        with contextlib.suppress(ConnectionError):
            while server.handle_one(cast("BinaryIO", self.rfile), cast("BinaryIO", self.wfile)):
                pass


def read_request(stream: BinaryIO) -> bytes:
    """Read a head and a body with a length; b"" at the end."""
    head, length = b"", 0
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        if not line:
            return b""
        head += line
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return head + stream.read(length)


@contextlib.contextmanager
def recording(recorder: Recorder) -> Iterator[Recorder]:
    """Run the server in a thread for the block."""
    thread = threading.Thread(target=recorder.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        with recorder:
            yield recorder
            recorder.shutdown()
    finally:
        thread.join()
