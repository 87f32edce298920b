"""How connections to an upstream are opened: over TCP, a Unix socket, or within this process.

Knows neither the pool that asks for a connection nor what is sent on it.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from sidecar.proxy.upstream import UpstreamConnection


class Connector(Protocol):
    """Opens connections whose protocol `factory` makes."""

    async def connect(self, factory: Callable[[], UpstreamConnection]) -> UpstreamConnection:
        """Open one connection. Raises OSError, or ValueError for an impossible host name."""
        ...


@dataclass(frozen=True, slots=True)
class TcpConnector:
    """Connects to a host and port; with `tls`, the certificate must be for `server_name`."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str = ""  # empty: the host itself

    async def connect(self, factory: Callable[[], UpstreamConnection]) -> UpstreamConnection:
        """Open one connection."""
        _, connection = await asyncio.get_running_loop().create_connection(
            factory,
            self.host,
            self.port,
            ssl=self.tls,
            server_hostname=(self.server_name or None) if self.tls else None,
        )
        return connection


@dataclass(frozen=True, slots=True)
class UnixConnector:
    """Connects to a Unix socket by its path."""

    path: str

    async def connect(self, factory: Callable[[], UpstreamConnection]) -> UpstreamConnection:
        """Open one connection."""
        _, connection = await asyncio.get_running_loop().create_unix_connection(factory, self.path)
        return connection


@dataclass(frozen=True, slots=True)
class InProcessConnector:
    """Connects to a server in this process over a socket pair, without a port or a file."""

    server: Callable[[], asyncio.BaseProtocol]

    async def connect(self, factory: Callable[[], UpstreamConnection]) -> UpstreamConnection:
        """Make a socket pair and hand one end to the server."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        try:
            for end in (ours, theirs):
                end.setblocking(False)
            await loop.connect_accepted_socket(self.server, theirs)
            _, connection = await loop.create_connection(factory, sock=ours)
        except BaseException:
            ours.close()
            theirs.close()
            raise
        return connection
