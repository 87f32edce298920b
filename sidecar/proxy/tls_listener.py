"""The traffic port where clients speak TLS: accepts them, and agrees with each before it counts.

A client is one of ours, with its time limits, once TLS is agreed on; until then it is an arrival
of `Home`, bounded in number and time. The context is looked up for each, so that a new certificate
holds from the next client on.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import ssl
from socket import IPPROTO_TCP, TCP_NODELAY
from typing import TYPE_CHECKING, Final

from sidecar.proxy.client_base import ANSWERED_OVER_LIMIT
from sidecar.proxy.downstream import Downstream

if TYPE_CHECKING:
    import socket

    from sidecar.proxy.connections import ConnectionSet
    from sidecar.proxy.context import DataPlaneContext

logger = logging.getLogger(__name__)

_AT_ONCE: Final = 32  # accepted in one turn of the loop
PAUSE: Final = 1.0  # seconds, when this process may open no more files
_DAY: Final = 86400.0  # seconds for what is left to be taken: `Client` looks how fast that goes
_EXHAUSTED: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class TlsListener:
    """Accepts on one bound socket."""

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
        """Accept from here on."""
        self._sock.listen(backlog)
        self._loop.add_reader(self._sock, self._accept)

    def close(self) -> None:
        """Accept no more; those who are arriving go on."""
        if self._later is not None:
            self._later.cancel()
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                client, _address = self._sock.accept()
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
            self._welcome(client)

    def _welcome(self, client: socket.socket) -> None:
        connections, context = self._connections, self._context
        most = context.limits.connections
        if 0 < most <= len(connections.open) + len(connections.arriving) - ANSWERED_OVER_LIMIT:
            client.close()
            return
        agreeing = context.tasks.spawn(self._agree(client), "TLS handshake")
        connections.expect(agreeing)

    async def _agree(self, client: socket.socket) -> None:
        context = self._context
        counts = context.metrics.handshakes
        try:
            await self._loop.connect_accepted_socket(
                lambda: Downstream(context, self._connections),
                client,
                ssl=context.tls,
                ssl_handshake_timeout=context.limits.header_timeout,
                ssl_shutdown_timeout=_DAY,
            )
        except ssl.SSLError as fault:
            counts["failed"] += 1
            logger.debug("TLS not agreed on: %s", fault.reason)
        except OSError:  # it left, or took too long
            counts["aborted"] += 1
        else:
            counts["ok"] += 1
