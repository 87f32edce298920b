"""What can be wrong with Redis, in one word each, and which error of the client library means it.

The word is a metric label and a log field. An error's own text is never passed on: the library puts
keys and values of the command into it.
"""

from __future__ import annotations

import ssl
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from redis import exceptions as redis_errors

from sidecar.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping


class Fault(StrEnum):
    """Why Redis could not be used."""

    REFUSED = "refused"  # nobody listens there
    UNREACHABLE = "unreachable"  # no route, no such name, no connection for another reason
    TLS = "tls"  # no agreement, or a certificate that does not hold
    BROKEN = "broken"  # the connection ended before the answer
    TIMEOUT = "timeout"  # no answer before the deadline
    PROTOCOL = "protocol"  # what came is not Redis' protocol
    BUSY = "busy"  # every connection of ours was taken until the deadline
    MAX_CLIENTS = "max_clients"  # the server takes no more connections
    AUTH = "auth"  # no password, or a wrong one
    PERMISSION = "permission"  # the ACL forbids the command or the key
    LOADING = "loading"  # the server reads its data set
    MASTER_DOWN = "master_down"  # a replica without its master
    CLUSTER_DOWN = "cluster_down"
    READONLY = "readonly"  # a replica, or a master that has been demoted
    OOM = "oom"  # maxmemory reached, and nothing may be evicted
    UNSAVED = "unsaved"  # it cannot persist, or has too few replicas, and so takes no writes
    WRONG_TYPE = "wrong_type"  # another kind of value stands at the key
    ERROR = "error"  # any other refusal


# A pooled connection may be dead while Redis is well, or lead to a master that is one no more:
# these are tried once more on a fresh connection, inside the same deadline.
RETRIED: Final = frozenset({Fault.BROKEN, Fault.PROTOCOL, Fault.TIMEOUT, Fault.READONLY})

# In a cluster also these: another node may have taken over.
MOVED: Final = RETRIED | {Fault.REFUSED, Fault.UNREACHABLE, Fault.CLUSTER_DOWN}

# These are no hiccup: the next request would meet the same.
CERTAIN: Final = frozenset(
    {
        *(Fault.REFUSED, Fault.UNREACHABLE, Fault.TLS, Fault.MAX_CLIENTS, Fault.AUTH),
        *(Fault.PERMISSION, Fault.LOADING, Fault.MASTER_DOWN, Fault.CLUSTER_DOWN),
    }
)

# The command never left, or was refused before anything was done.
UNSENT: Final = frozenset(
    {
        *(Fault.REFUSED, Fault.UNREACHABLE, Fault.TLS, Fault.BUSY, Fault.MAX_CLIENTS),
        *(Fault.AUTH, Fault.LOADING, Fault.MASTER_DOWN),
    }
)

# Reads work beside these: a write that meets one says nothing about look-ups.
WRITES_ONLY: Final = frozenset(
    {Fault.READONLY, Fault.OOM, Fault.UNSAVED, Fault.PERMISSION, Fault.WRONG_TYPE, Fault.ERROR}
)


class RedisUnavailable(StoreUnavailable):
    """Redis could not do it. `fault` says why, `operation` which use of a connection it was.

    Many look-ups may share one operation; who counts faults counts operations.
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
# Error codes that the library has no class for: the reply's first word (RESP, "simple errors").
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
        return Fault.BROKEN  # reset, broken pipe, or closed by the server in good order
    return Fault.UNREACHABLE
