"""The classification of the client library's errors."""

from __future__ import annotations

import socket
import ssl

import pytest
from redis import exceptions as redis_errors

from sidecar.sessions.redis.faults import (
    CERTAIN,
    RETRIED,
    UNSENT,
    WRITES_ONLY,
    Fault,
    RedisUnavailable,
    classify,
)


def after(cause: BaseException) -> redis_errors.ConnectionError:
    """The library's connection error after this socket error."""
    error = redis_errors.ConnectionError("Error while connecting")
    error.__context__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        pytest.param(after(ConnectionRefusedError()), Fault.REFUSED, id="refused"),
        pytest.param(after(socket.gaierror(-2, "unknown")), Fault.UNREACHABLE, id="no name"),
        pytest.param(after(OSError(113, "no route")), Fault.UNREACHABLE, id="no route"),
        pytest.param(after(ssl.SSLCertVerificationError()), Fault.TLS, id="certificate"),
        pytest.param(after(ConnectionResetError()), Fault.BROKEN, id="reset"),
        pytest.param(after(BrokenPipeError()), Fault.BROKEN, id="pipe"),
        pytest.param(ConnectionResetError(), Fault.BROKEN, id="bare reset"),
        pytest.param(RuntimeError("the handler is closed"), Fault.BROKEN, id="uvloop's reset"),
        pytest.param(redis_errors.ConnectionError("closed"), Fault.BROKEN, id="closed"),
        pytest.param(redis_errors.TimeoutError(), Fault.TIMEOUT, id="timeout"),
        pytest.param(redis_errors.InvalidResponse(), Fault.PROTOCOL, id="protocol"),
        pytest.param(redis_errors.MaxConnectionsError(), Fault.BUSY, id="pool"),
        pytest.param(
            redis_errors.ConnectionError("max number of clients reached", status_code="ERR"),
            Fault.MAX_CLIENTS,
            id="max clients",
        ),
        pytest.param(redis_errors.AuthenticationError(), Fault.AUTH, id="password"),
        pytest.param(
            redis_errors.AuthenticationWrongNumberOfArgsError(), Fault.AUTH, id="user name"
        ),
        pytest.param(redis_errors.NoPermissionError(), Fault.PERMISSION, id="ACL"),
        pytest.param(redis_errors.BusyLoadingError(), Fault.LOADING, id="loading"),
        pytest.param(redis_errors.MasterDownError("x"), Fault.MASTER_DOWN, id="master down"),
        pytest.param(redis_errors.ClusterDownError("x"), Fault.CLUSTER_DOWN, id="cluster down"),
        pytest.param(redis_errors.ReadOnlyError(), Fault.READONLY, id="replica"),
        pytest.param(redis_errors.OutOfMemoryError(), Fault.OOM, id="memory"),
        pytest.param(
            redis_errors.ResponseError("MISCONF Redis is configured to save"),
            Fault.UNSAVED,
            id="not saved",
        ),
        pytest.param(
            redis_errors.ResponseError("WRONGTYPE Operation against a key"),
            Fault.WRONG_TYPE,
            id="type",
        ),
        pytest.param(redis_errors.ResponseError("ERR unknown"), Fault.ERROR, id="refusal"),
        pytest.param(redis_errors.RedisError("?"), Fault.ERROR, id="anything else"),
    ],
)
def test_errors_and_their_faults(error: Exception, fault: Fault) -> None:
    """Every class is mapped, even subclasses of the one that means an outage."""
    assert classify(error) is fault


def test_faults_that_would_recur_are_not_retried() -> None:
    """A retry after a certain fault, or before anything was sent, would fail again."""
    assert not RETRIED & (CERTAIN | UNSENT)


def test_a_refused_write_may_have_been_done_in_part() -> None:
    """A pipeline continues after one of its commands was refused."""
    assert not WRITES_ONLY & UNSENT


def test_the_message_is_one_word() -> None:
    """It contains no text of the library."""
    unavailable = RedisUnavailable(Fault.OOM, 7)
    assert (str(unavailable), unavailable.operation) == ("redis: oom", 7)
