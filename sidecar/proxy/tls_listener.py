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

from sidecar.proxy.client import TOLD
from sidecar.proxy.downstream import Downstream

if TYPE_CHECKING:
    import socket

    from sidecar.proxy.home import Home
    from sidecar.proxy.shared import Shared

logger = logging.getLogger(__name__)

_AT_ONCE: Final = 32  # accepted in one turn of the loop
PAUSE: Final = 1.0  # seconds, when this process may open no more files
_DAY: Final = 86400.0  # seconds for what is left to be taken: `Client` looks how fast that goes
_EXHAUSTED: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class TlsListener:
    """Accepts on one bound socket."""

    __slots__ = ("_home", "_later", "_loop", "_shared", "_sock")

    def __init__(self, shared: Shared, home: Home, sock: socket.socket) -> None:
        self._shared = shared
        self._home = home
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._later: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<TlsListener arriving={len(self._home.arriving)}>"

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
        home, shared = self._home, self._shared
        most = shared.limits.connections
        if 0 < most <= len(home.connections) + len(home.arriving) - TOLD:
            client.close()
            return
        agreeing = shared.tasks.spawn(self._agree(client), "TLS handshake")
        home.expect(agreeing)

    async def _agree(self, client: socket.socket) -> None:
        shared = self._shared
        counts = shared.metrics.handshakes
        try:
            await self._loop.connect_accepted_socket(
                lambda: Downstream(shared, self._home),
                client,
                ssl=shared.tls,
                ssl_handshake_timeout=shared.limits.header_timeout,
                ssl_shutdown_timeout=_DAY,
            )
        except ssl.SSLError as fault:
            counts["refused"] += 1
            logger.debug("TLS not agreed on: %s", fault.reason)
        except OSError:  # it left, or took too long
            counts["broken_off"] += 1
        else:
            counts["agreed"] += 1
