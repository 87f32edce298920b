"""A test double that asks an upstream pool for a connection and records what happens to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.proxy.flow import NEVER

if TYPE_CHECKING:
    from sidecar.errors import UpstreamError
    from sidecar.proxy.upstream import UpstreamConnection
    from sidecar.proxy.upstream_pool import UpstreamPool
    from sidecar.wire.head import ResponseHead

REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


class Asker:
    """A connection waiter that sends `REQUEST` on every connection it gets."""

    to_head = False
    decodes = sends_body = False
    unread_since = slow_from = NEVER

    def __init__(
        self, name: str = "", served: list[str] | None = None, caller: str = "192.0.2.1"
    ) -> None:
        self.caller = caller
        self.name = name
        self.served = [] if served is None else served  # names, in the order of service
        self.connection: UpstreamConnection | None = None
        self.refused: UpstreamError | None = None
        self.lost: UpstreamError | None = None
        self.stale = False
        self.interim: list[int] = []
        self.upgraded = b""
        self.status = 0
        self.body = b""
        self.complete = False
        self.full: list[bool] = []

    def __repr__(self) -> str:
        return f"<Asker {self.name}>"

    def ask(self, pool: UpstreamPool) -> Asker:
        """Take an idle connection or wait for a new one, as an exchange does."""
        connection = pool.pool.take()
        if connection is None:
            pool.obtain(self)
        else:
            self.on_connected(connection)
        return self

    def release(self, pool: UpstreamPool, now: float = 0.0) -> None:
        """Return the connection to the pool."""
        assert self.connection is not None
        connection, self.connection = self.connection, None
        pool.release(connection, now)

    def give_way(self) -> None:
        """Do nothing: it reads whatever arrives, and sends everything at once."""

    def on_connected(self, connection: UpstreamConnection) -> None:
        """Send `REQUEST` on the new connection."""
        self.served.append(self.name)
        self.connection = connection
        connection.send(self, REQUEST)

    def on_not_connected(self, error: UpstreamError) -> None:
        """Record why there is no connection."""
        self.refused = error

    def on_interim(self, head: ResponseHead) -> None:
        """Record the status of an interim response."""
        self.interim.append(head.status)

    def on_upgrade(self, head: ResponseHead, rest: bytes) -> None:
        """Record the status and the bytes that followed the head of the 101 response."""
        self.status = head.status
        self.upgraded = rest

    def on_response(self, head: ResponseHead, first: bytes, *, complete: bool) -> None:
        """Record the status and the first part of the body."""
        self.status = head.status
        self.body = first
        self.complete = complete

    def on_body(self, data: bytes, *, complete: bool) -> None:
        """Append to the recorded body."""
        self.body += data
        self.complete = complete

    def on_upstream_lost(self, error: UpstreamError, *, stale: bool) -> None:
        """Record the error and drop the lost connection."""
        self.lost = error
        self.stale = stale
        self.connection = None

    def on_upstream_full(self, *, full: bool) -> None:
        """Record whether the upstream accepts more of the request body."""
        self.full.append(full)
