"""Connections to Redis that authenticate again, without being closed, when the credential changes.

A connection does so before its next command; idle connections are given one. The client library can
do this too (`StreamingCredentialProvider`), but with a blocking pool it sends AUTH on a connection
that another task may take meanwhile, it skips a cluster's busy connections, and a refused AUTH
closes the connection. Knows no sources of credentials.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Protocol, cast
from weakref import WeakSet

from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.credentials import CredentialProvider
from redis.exceptions import (
    AuthenticationError,
    ExternalAuthProviderError,
    ResponseError,
)

from sidecar.sessions.redis.faults import ERRORS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from redis.asyncio import Redis
    from redis.asyncio.cluster import ClusterNode

    from sidecar.sessions.redis.credentials import Credential

    Ask = Callable[..., Awaitable[object]]

_PATIENCE: Final = 5.0  # seconds that idle connections have to authenticate
_REFUSALS: Final = (AuthenticationError, ResponseError)


class Credentials(Protocol):
    """The newest credential, and what becomes of it.

    `attempt` numbers the attempts to authenticate: a connection makes each attempt once. It is 0
    while Redis refuses the credential. `previous` is the one that Redis accepted before, as long as
    the newest is refused.
    """

    username: str
    current: Credential | None
    attempt: int

    @property
    def proven(self) -> bool:
        """Whether Redis has accepted the newest credential."""

    @property
    def previous(self) -> Credential | None:
        """What new connections use instead of the newest credential, if anything."""

    async def on_connect(self) -> None:
        """Update `current`, if that costs little: a new connection needs it."""

    def accepted(self, credential: Credential) -> None:
        """Redis has accepted this credential."""

    def refused(self, credential: Credential) -> None:
        """Redis has refused this credential."""


class ClientCredentials(CredentialProvider):
    """Provides the newest credential to the connections of one client, and knows them."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self.connections: WeakSet[ReauthenticatingConnection] = WeakSet()

    def __repr__(self) -> str:
        return f"<ClientCredentials of {len(self.connections)} connections>"

    @property
    def username(self) -> str:
        """The user, for logs. Empty for the default user."""
        current = self.credentials.current
        return self.credentials.username if current is None else current.username

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """The arguments of AUTH. Raises the library's ExternalAuthProviderError."""
        credential = self.credentials.previous or self.credentials.current
        if credential is None:
            raise ExternalAuthProviderError("there is no credential yet")
        return credential.arguments()

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """The arguments of AUTH. Raises the library's ExternalAuthProviderError."""
        return self.get_credentials()

    def follow(self, client: Redis) -> None:
        """Make the connections of a new client authenticate again. It has none yet."""
        if isinstance(client, RedisCluster):
            # The client has no argument for it. This is the dictionary that new nodes are made of.
            arguments = client.nodes_manager.connection_kwargs
            kind = _reauthenticating(arguments["connection_class"])
            arguments["connection_class"] = kind
            for node in client.nodes_manager.startup_nodes.values():
                node.connection_class = kind
        else:
            pool = client.connection_pool
            pool.connection_class = _reauthenticating(pool.connection_class)

    @property
    def stale(self) -> int:
        """How many connections still have to authenticate."""
        return sum(each.is_stale for each in self.connections)

    async def reach_idle(self, client: Redis) -> None:
        """Send a PING on the idle connections of the client, so that they authenticate.

        Those in use do so with their next command, and held ones when their holder has them do it.
        Call it again while there are `stale` ones.
        """
        try:
            async with asyncio.timeout(_PATIENCE):
                if isinstance(client, RedisCluster):
                    await _all(self._reach_node(node) for node in _nodes(client))
                else:
                    # One first, which finds out whether the credential is accepted. Then concurrent
                    # ones, so that each has its own connection.
                    await _all(client.ping() for _ in range(min(1, _idle(client))))
                    await _all(client.ping() for _ in range(_idle(client) if self.stale else 0))
        except TimeoutError:
            return

    async def _reach_node(self, node: ClusterNode) -> None:
        """Send PINGs to one node. Raises the library's errors.

        One after another: an operation that finds every connection of a node in use fails. A node
        uses its free connections in turn.
        """
        here = (node.host, str(node.port))
        stale = [each for each in self.connections if each.is_stale and not each.held]
        for _ in [each for each in stale if each.place == here]:
            await node.execute_command("PING")


class ReauthenticatingConnection(AbstractConnection):
    """A connection whose `credential_provider` is a `ClientCredentials`.

    AUTH is sent where a command begins, so the connection belongs to the sender and every earlier
    reply has been read. Where this is not certain, `hold` it.
    """

    held = False  # see `hold`
    _tried = 0  # the latest attempt that it has made

    @property
    def is_stale(self) -> bool:
        """Whether it still has to authenticate."""
        connected: bool = self.is_connected
        return connected and self._tried < self.credentials.attempt

    @property
    def place(self) -> tuple[str, str]:
        """Host and port of the server; empty for a Unix socket."""
        return str(getattr(self, "host", "")), str(getattr(self, "port", ""))

    @property
    def credentials(self) -> Credentials:
        """The newest credential."""
        provider: Any = self.credential_provider  # `cast` would cost a call for each command
        credentials: Credentials = provider.credentials
        return credentials

    async def connect_check_health(
        self,
        check_health: bool = True,  # noqa: FBT001, FBT002
        retry_socket_connect: bool = True,  # noqa: FBT001, FBT002
    ) -> None:
        """Connect. If Redis refuses the newest credential, connect with the previous one."""
        try:
            await super().connect_check_health(check_health, retry_socket_connect)
        except AuthenticationError:
            if self.credentials.previous is None:
                raise
            await super().connect_check_health(check_health, retry_socket_connect)

    async def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: FBT001, FBT002
        """Authenticate a new connection."""
        credentials = self.credentials
        cast("ClientCredentials", self.credential_provider).connections.add(self)
        await credentials.on_connect()
        credential = credentials.previous or credentials.current
        self._tried = credentials.attempt
        try:
            await super().on_connect_check_health(check_health)
        except AuthenticationError:
            if credential is not None:
                credentials.refused(credential)
            raise
        if credential is not None:
            credentials.accepted(credential)

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002
        """Send a command, after AUTH if the credential has changed."""
        if self._tried < self.credentials.attempt and self.is_stale and not self.held:
            await self.authenticate(self._ask)
        await super().send_packed_command(command, check_health)

    async def authenticate(self, ask: Ask) -> None:
        """Send AUTH. If it is refused, the connection stays what it was."""
        credentials = self.credentials
        credential, self._tried = credentials.current, credentials.attempt
        if credential is None:
            return
        try:
            answer = await ask("AUTH", *credential.arguments())
        except _REFUSALS as error:
            answer = error
        if isinstance(answer, _REFUSALS):
            credentials.refused(credential)
        else:
            credentials.accepted(credential)

    async def _ask(self, *command: str) -> object:
        await super().send_packed_command(self.pack_command(*command), check_health=False)
        try:
            # By default, an error reply to AUTH would close the connection.
            return await self.read_response(disconnect_on_error=False)
        except _REFUSALS:
            raise
        except BaseException:  # the reply may arrive later
            await self.disconnect(nowait=True)
            raise


def _idle(client: Redis) -> int:
    """How many connections of the client's pool are not in use."""
    idle, _ = client.connection_pool.get_connection_count()
    return idle[0]


def hold(connection: AbstractConnection) -> None:
    """Send no AUTH on this connection: its holder also sends commands while others are unanswered.

    The holder calls `reauthenticate` now and then.
    """
    if isinstance(connection, ReauthenticatingConnection):
        connection.held = True


async def reauthenticate(connection: AbstractConnection, ask: Ask) -> None:
    """Authenticate a held connection again, once another one has shown that Redis accepts it.

    `ask` sends a command and returns its answer; an error reply may be returned or raised.
    """
    if isinstance(connection, ReauthenticatingConnection):
        credentials: Credentials = connection.credentials
        if connection.is_stale and credentials.proven:
            await connection.authenticate(ask)


async def _all(pings: Iterable[Awaitable[object]]) -> None:
    """Await all. A connection that fails here fails again when it is used, and that counts."""
    for outcome in await asyncio.gather(*pings, return_exceptions=True):
        if isinstance(outcome, BaseException) and not isinstance(outcome, ERRORS):
            raise outcome


def _reauthenticating(kind: type[AbstractConnection]) -> type[AbstractConnection]:
    """The same kind of connection (plain, TLS, Unix socket, Sentinel), but reauthenticating."""
    return type(f"Reauthenticating{kind.__name__}", (ReauthenticatingConnection, kind), {})


def _nodes(client: RedisCluster) -> Iterable[ClusterNode]:
    """Every node that may have connections: a startup node is not the node found in its place."""
    manager = client.nodes_manager
    found = (*manager.nodes_cache.values(), *manager.startup_nodes.values())
    return {id(node): node for node in found}.values()
