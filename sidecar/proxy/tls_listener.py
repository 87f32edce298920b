"""The traffic port with TLS: accepts clients and completes each handshake before it counts.

A client becomes a connection, with its time limits, once its handshake is done; until then it is
one of `ConnectionSet.arriving`, bounded in number and time. The TLS context is read for each
client, so that a new certificate applies from the next one on.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import ssl
from socket import IPPROTO_TCP, TCP_NODELAY
from typing import TYPE_CHECKING, Final

from sidecar.proxy.admission import ADDRESS, CONNECTIONS
from sidecar.proxy.client_connection import ANSWERED_OVER_LIMIT
from sidecar.proxy.downstream import Downstream
from sidecar.wire.client_address import client_of, parse_address
from sidecar.wire.forwarded import is_trusted

if TYPE_CHECKING:
    import socket

    from sidecar.proxy.connections import ConnectionSet
    from sidecar.proxy.context import DataPlaneContext

logger = logging.getLogger(__name__)

_ACCEPTED_AT_ONCE: Final = 32  # in one turn of the loop
PAUSE: Final = 1.0  # seconds without accepting, when this process may open no more files
# Seconds for a client to read what is left at the end; `ClientConnection` enforces the real limit.
_DAY: Final = 86400.0
_EXHAUSTED: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class TlsListener:
    """Accepts clients on one bound socket. Make it in a running event loop."""

    __slots__ = ("_connections", "_context", "_later", "_loop", "_sock")

    def __init__(
        self, context: DataPlaneContext, connections: ConnectionSet, sock: socket.socket
    ) -> None:
        self._context = context
        self._connections = connections
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._later: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<TlsListener arriving={len(self._connections.arriving)}>"

    def start(self, backlog: int) -> None:
        """Listen, with a queue of this length, and accept."""
        self._sock.listen(backlog)
        self._loop.add_reader(self._sock, self._accept)

    def close(self) -> None:
        """Accept no more clients; handshakes under way continue."""
        if self._later is not None:
            self._later.cancel()
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                client, address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as fault:
                if fault.errno not in _EXHAUSTED:
                    raise
                logger.warning("no client can be accepted for now: %s", fault.strerror)
                self._loop.remove_reader(self._sock)
                self._later = self._loop.call_later(
                    PAUSE, self._loop.add_reader, self._sock, self._accept
                )
                return
            client.setblocking(False)
            client.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
            self._welcome(client, address[0])

    def _welcome(self, sock: socket.socket, address: str) -> None:
        connections, context = self._connections, self._context
        limit = context.limits.connections
        trusted = is_trusted(address, context.trusted_proxies)
        client = "" if trusted else client_of(parse_address(address))
        if 0 < limit <= len(connections.open) + len(connections.arriving) - ANSWERED_OVER_LIMIT:
            context.admission.refused(CONNECTIONS, client)
            sock.close()
            return
        # Without an answer: a handshake costs more than the answer is worth.
        if client and 0 < context.limits.per_address <= context.admission.opened(client):
            context.admission.refused(ADDRESS, client)
            sock.close()
            return
        connection = Downstream(context, connections)
        connection.count_for(client)
        handshake = context.tasks.spawn(self._handshake(sock, connection), "TLS handshake")
        handshake.add_done_callback(lambda _: _forget_unless_open(connection, connections))
        connections.expect(handshake)

    async def _handshake(self, sock: socket.socket, connection: Downstream) -> None:
        context = self._context
        counts = context.metrics.handshakes
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                sock,
                ssl=context.tls,
                ssl_handshake_timeout=context.limits.header_timeout,
                ssl_shutdown_timeout=_DAY,
            )
        except ssl.SSLError as fault:
            counts["failed"] += 1
            logger.debug("TLS handshake failed: %s", fault.reason)
        except OSError:  # the client disconnected, or took too long
            counts["aborted"] += 1
        else:
            counts["ok"] += 1


def _forget_unless_open(connection: Downstream, connections: ConnectionSet) -> None:
    """Count a client no longer whose handshake failed; an open connection does so at its end."""
    if connection not in connections.open:
        connection.count_for("")
