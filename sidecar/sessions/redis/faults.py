"""The faults of Redis, one word each, and the client library's errors that mean them.

The word is a metric label and a log field. An error's own text is never passed on, because the
library puts the command's keys and values into it.
"""

from __future__ import annotations

import ssl
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from redis import exceptions as redis_errors

from sidecar.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

# What the client library raises if a connection or command fails. RuntimeError is uvloop's, when it
# writes to a connection that was reset just before. A cluster's client also raises
# RedisClusterException.
ERRORS: Final = (redis_errors.RedisError, OSError, RuntimeError)


class Fault(StrEnum):
    """Why Redis could not be used."""

    REFUSED = "refused"  # nothing listens on the port
    UNREACHABLE = "unreachable"  # no route, unknown host, or another error while connecting
    TLS = "tls"  # the handshake failed, or the certificate is invalid
    BROKEN = "broken"  # the connection closed before the answer
    TIMEOUT = "timeout"  # Redis had the whole deadline and did not answer
    PROTOCOL = "protocol"  # the answer is not Redis' protocol
    BUSY = "busy"  # this process left Redis too little of the deadline: no free slot, or no CPU
    MAX_CLIENTS = "max_clients"  # the server accepts no more connections
    AUTH = "auth"  # missing or wrong password
    PERMISSION = "permission"  # the ACL forbids the command or the key
    LOADING = "loading"  # the server is loading its data set
    MASTER_DOWN = "master_down"  # a replica without its master
    CLUSTER_DOWN = "cluster_down"
    READONLY = "readonly"  # a replica, or a master that has been demoted
    OOM = "oom"  # maxmemory is reached and nothing can be evicted
    UNSAVED = "unsaved"  # no writes, because it cannot persist or has too few replicas
    WRONG_TYPE = "wrong_type"  # the key holds another type of value
    ERROR = "error"  # any other error reply


# What to check if Redis refuses the user: that does not end by itself.
CHECK: Final[Mapping[Fault, str]] = {
    Fault.AUTH: "REDIS_USERNAME and REDIS_PASSWORD, REDIS_PASSWORD_FILE or REDIS_PASSWORD_COMMAND,"
    " or user and password in REDIS_URL; in Redis, ACL LIST shows whether the user exists and is"
    " on",
    Fault.PERMISSION: "the rights of this user: ACL LOG in Redis names the command, key or channel",
}

# Retried once on a fresh connection, within the same deadline: a pooled connection may be dead
# although Redis works, or may lead to a former master.
RETRIED: Final = frozenset({Fault.BROKEN, Fault.PROTOCOL, Fault.TIMEOUT, Fault.READONLY})

# Retried in a cluster, where another node may have taken over.
RETRIED_IN_CLUSTER: Final = RETRIED | {Fault.REFUSED, Fault.UNREACHABLE, Fault.CLUSTER_DOWN}

# Not transient: the next request would fail in the same way.
CERTAIN: Final = frozenset(
    {
        *(Fault.REFUSED, Fault.UNREACHABLE, Fault.TLS, Fault.MAX_CLIENTS, Fault.AUTH),
        *(Fault.PERMISSION, Fault.LOADING, Fault.MASTER_DOWN, Fault.CLUSTER_DOWN),
    }
)

# Redis is away, and the command was not sent or was refused before it had any effect.
UNSENT: Final = frozenset(
    {
        *(Fault.REFUSED, Fault.UNREACHABLE, Fault.TLS, Fault.MAX_CLIENTS),
        *(Fault.AUTH, Fault.LOADING, Fault.MASTER_DOWN),
    }
)

# If a write fails with one of these, reads may still work.
WRITES_ONLY: Final = frozenset(
    {Fault.READONLY, Fault.OOM, Fault.UNSAVED, Fault.PERMISSION, Fault.WRONG_TYPE, Fault.ERROR}
)


class RedisUnavailable(StoreUnavailable):
    """Redis could not be used. `fault` says why.

    `operation` numbers the use of a connection that failed. Many look-ups may share one operation:
    count operations to count faults.
    """

    def __init__(self, fault: Fault, operation: int = 0) -> None:
        self.fault = fault
        self.operation = operation
        super().__init__(f"redis: {fault}")


# First match wins: several of these are subclasses of the library's ConnectionError.
_BY_TYPE: Final = (
    (redis_errors.MaxConnectionsError, Fault.BUSY),
    (redis_errors.AuthenticationError, Fault.AUTH),
    (redis_errors.AuthorizationError, Fault.AUTH),
    (redis_errors.ExternalAuthProviderError, Fault.AUTH),
    (redis_errors.AuthenticationWrongNumberOfArgsError, Fault.AUTH),
    (redis_errors.NoPermissionError, Fault.PERMISSION),
    (redis_errors.BusyLoadingError, Fault.LOADING),
    (redis_errors.MasterDownError, Fault.MASTER_DOWN),
    (redis_errors.ClusterDownError, Fault.CLUSTER_DOWN),
    (redis_errors.RedisClusterException, Fault.CLUSTER_DOWN),
    (redis_errors.ReadOnlyError, Fault.READONLY),
    (redis_errors.OutOfMemoryError, Fault.OOM),
    (redis_errors.TimeoutError, Fault.TIMEOUT),
    (redis_errors.InvalidResponse, Fault.PROTOCOL),
)
# Error codes without a class in the library: the first word of the reply (RESP, "simple errors").
_BY_CODE: Final[Mapping[str, Fault]] = {
    "WRONGTYPE": Fault.WRONG_TYPE,
    "MISCONF": Fault.UNSAVED,
    "NOREPLICAS": Fault.UNSAVED,
}


def classify(error: Exception) -> Fault:
    """The fault behind an error that the client library raised or returned."""
    for kind, fault in _BY_TYPE:
        if isinstance(error, kind):
            return fault
    if isinstance(error, redis_errors.ConnectionError):
        # The one connection error that is a reply: "ERR max number of clients reached".
        if error.status_code is not None:
            return Fault.MAX_CLIENTS
        return _of_socket(error.__cause__ or error.__context__)
    if isinstance(error, OSError | RuntimeError):
        return _of_socket(error)
    if isinstance(error, redis_errors.ResponseError):
        return _BY_CODE.get(str(error).partition(" ")[0], Fault.ERROR)
    return Fault.ERROR


def _of_socket(error: BaseException | None) -> Fault:
    if isinstance(error, ConnectionRefusedError):
        return Fault.REFUSED
    if isinstance(error, ssl.SSLError):
        return Fault.TLS
    if isinstance(error, ConnectionError) or not isinstance(error, OSError):
        return Fault.BROKEN  # reset, broken pipe, or closed by the server
    return Fault.UNREACHABLE
