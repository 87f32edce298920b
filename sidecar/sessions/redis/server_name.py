"""What logs call a Redis: its address, and the user that the sidecar logs in as.

Owns the rule that no password gets there. Knows neither commands nor sessions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from redis.asyncio.cluster import RedisCluster
from redis.asyncio.sentinel import SentinelConnectionPool

from sidecar.sessions.redis.reauthentication import ClientCredentials
from sidecar.sessions.store import ServerName

if TYPE_CHECKING:
    from redis.asyncio import Redis

DEFAULT_USER: Final = "default"  # whom Redis takes for the user if none is named
# Of `redis://secret@host`: meant for a password, perhaps, so it is not shown.
UNCLEAR_USER: Final = "(as in REDIS_URL)"


def name_of(client: Redis) -> ServerName:
    """Name the server that a client connects to: host and port, a socket, a service, or nodes."""
    if isinstance(client, RedisCluster):
        nodes = client.nodes_manager.startup_nodes.values()
        address = ",".join(sorted(f"{node.host}:{node.port}" for node in nodes))
        return ServerName(address, _user(client.nodes_manager.connection_kwargs))
    pool = client.connection_pool
    to = pool.connection_kwargs
    if isinstance(pool, SentinelConnectionPool):
        address = f"sentinel service {pool.service_name}"
    else:
        address = to.get("path") or f"{to.get('host', 'localhost')}:{to.get('port', 6379)}"
    return ServerName(address, _user(to))


def _user(to: dict[str, object]) -> str:
    provider = to.get("credential_provider")
    if isinstance(provider, ClientCredentials):
        return provider.username or DEFAULT_USER
    name = to.get("username")
    if not name:
        return DEFAULT_USER
    return str(name) if to.get("password") else UNCLEAR_USER
