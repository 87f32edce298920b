"""Answers that begin while the request's body is still being sent reach the client."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Final

import pytest

from sidecar.proxy.client_connection import _LINGER_OCTETS
from sidecar.proxy.connectors import TcpConnector
from sidecar.proxy.context import Limits
from tests.peers.patience import PATIENCE, until
from tests.proxy.memory_plane import OK, Plane, rest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.peers.memory_transport import MemoryTransport
    from tests.proxy.crank import Crank

POST: Final = b"POST / HTTP/1.%d\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n"
PIECE: Final = b"x" * 300_000  # more than a transport buffers: it is written at once
LIMITS: Final = Limits(body_buffer=0)
TOO_LARGE: Final = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\n"
ENDINGS: Final = {"close": None, "reset": struct.pack("ii", 1, 0)}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A listening socket: the test plays the application on it, by hand."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)  # a test that fails must not hang
        yield server


async def begin(
    listener: socket.socket, minor: int = 1, line: bytes = b""
) -> tuple[MemoryTransport, socket.socket]:
    """Begin an upload, and return the client's wire and the application's end of its request."""
    plane = Plane(limits=LIMITS)
    plane.pool.replace_connector(TcpConnector("127.0.0.1", listener.getsockname()[1]))
    wire = plane.connect()
    wire.feed((POST % minor)[:-2] + line + b"\r\n")
    await until(lambda: bool(plane.pool.pool.leased))
    (connection,) = plane.pool.pool.leased
    await until(lambda: connection.exchange is not None)
    application, _ = listener.accept()
    return wire, application


def end(application: socket.socket, ending: str) -> None:
    """Close; since the request was not read, this resets the connection in either case."""
    linger = ENDINGS[ending]
    if linger is not None:
        application.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    application.close()


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("minor", [1, 0])
@pytest.mark.parametrize("size", [3, 30_000])
async def test_an_answer_before_a_reset(
    listener: socket.socket, ending: str, minor: int, size: int
) -> None:
    """An answer that arrived before a write failed is read, and its client is not reset."""
    wire, application = await begin(listener, minor)
    body = b"n" * size
    application.sendall(TOO_LARGE + b"Content-Length: %d\r\n\r\n" % size + body)
    end(application, ending)
    wire.feed(PIECE)  # this write fails before the loop can read
    await until(lambda: wire.eof_written)
    answer = wire.take()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.endswith(b"\r\n\r\n" + body)
    assert not wire.aborted
    wire.feed(PIECE)  # the client has not noticed yet
    wire.feed_eof()
    await rest()
    assert wire.lost


async def test_an_expectation_that_is_refused(listener: socket.socket) -> None:
    """A client that waits for 100 gets the answer instead; what it sends then is dropped."""
    wire, application = await begin(listener, line=b"Expect: 100-continue\r\n")
    application.sendall(TOO_LARGE + b"Content-Length: 2\r\n\r\nno")
    end(application, "reset")
    await until(lambda: wire.eof_written)
    assert wire.take().startswith(b"HTTP/1.1 413 ")
    wire.feed(PIECE)
    assert not wire.aborted


async def test_what_an_idle_connection_had_received(listener: socket.socket) -> None:
    """A 408 before a reset of an idle connection is no answer to the next request: that is resent.

    The loop has not read it when the request is sent: it may as well be an answer to that.
    """
    plane = Plane()
    plane.pool.replace_connector(TcpConnector("127.0.0.1", listener.getsockname()[1]))
    wire, get = plane.connect(), b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    wire.feed(get)
    await until(lambda: bool(plane.pool.pool.leased))
    application, _ = listener.accept()
    application.settimeout(PATIENCE)
    await asyncio.to_thread(application.recv, 1000)
    application.sendall(OK)
    await until(lambda: bool(plane.pool.pool.idle))
    assert wire.take().endswith(b"ok")
    (connection,) = plane.pool.pool.idle
    wire.feed(get)
    application.sendall(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
    end(application, "reset")
    connection.transport.write(PIECE)  # makes a write fail before the loop reads
    other = await asyncio.to_thread(lambda: listener.accept()[0])
    with other:
        other.sendall(OK)
        await until(lambda: bool(wire.written))
        assert wire.take().startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("begun", [b"", TOO_LARGE, TOO_LARGE + b"Content-Length: 9\r\n\r\nhal"])
async def test_a_part_of_an_answer_before_a_reset(listener: socket.socket, begun: bytes) -> None:
    """Without a whole head the client gets 502; a part of a body is broken off."""
    wire, application = await begin(listener)
    application.sendall(begun)
    end(application, "close")
    wire.feed(PIECE)
    await until(lambda: wire.lost or wire.eof_written)
    whole = begun.endswith(b"hal")
    assert wire.take().startswith(b"HTTP/1.1 413 " if whole else b"HTTP/1.1 502 ")
    assert wire.aborted == whole


async def test_an_upstream_that_ends_without_an_answer(listener: socket.socket) -> None:
    """If it will send nothing, the client is told so, although it does not read the request."""
    wire, application = await begin(listener)
    with application:
        while wire.reading:
            wire.feed(PIECE)
            await asyncio.sleep(0)
        application.shutdown(socket.SHUT_WR)
        await until(lambda: wire.eof_written)
        assert wire.take().startswith(b"HTTP/1.1 502 ")


async def test_an_answer_until_the_end_while_the_request_is_not_read(
    listener: socket.socket,
) -> None:
    """An answer that the upstream's FIN ends is complete then, not when the request is read."""
    wire, application = await begin(listener)
    with application:
        while wire.reading:
            wire.feed(PIECE)
            await asyncio.sleep(0)
        application.sendall(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        application.shutdown(socket.SHUT_WR)
        await until(lambda: wire.eof_written)
        assert wire.take().endswith(b"\r\n\r\nall of it")
        assert not wire.aborted


@pytest.mark.parametrize(
    ("status", "unfinished", "aborted"),
    [
        pytest.param("413 Too Large", True, False, id="early-error"),
        pytest.param("200 OK", True, True, id="no-error"),
        pytest.param("413 Too Large", False, True, id="not-early"),
    ],
)
async def test_a_reset_at_the_end_of_an_answer_without_a_length(
    *, status: str, unfinished: bool, aborted: bool
) -> None:
    """It ends an early error, because nothing else could; of any other answer it may be a part."""
    plane = Plane(limits=LIMITS)
    wire = plane.connect()
    wire.feed(POST % 1 if unfinished else b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    await rest()
    (upstream,) = plane.connector.wires
    upstream.feed(f"HTTP/1.1 {status}\r\n\r\nno".encode())
    upstream.lose(ConnectionResetError())
    await rest()
    assert wire.take().endswith(b"\r\n\r\nno")
    assert (wire.aborted, wire.eof_written) == (aborted, not aborted)
    assert not plane.context.metrics.in_flight


@pytest.mark.parametrize("own", [True, False])
async def test_a_client_that_sends_very_much_more(crank: Crank, *, own: bool) -> None:
    """It has until the time limit to read its answer: what it sends is dropped, then not read."""
    plane = Plane(limits=LIMITS)
    wire = plane.connect()
    if own:
        wire.feed(POST.replace(b"POST /", b"POST //../") % 1)  # malformed: 400
    else:
        wire.feed(POST % 1)
        await rest()
        plane.connector.wires[0].feed(OK)
    assert wire.take()
    left = _LINGER_OCTETS
    while left > 0:
        assert wire.is_reading()
        wire.feed(PIECE)
        left -= len(PIECE)
    assert not wire.reading
    crank.turn(plane, LIMITS.linger - 0.5)
    assert not wire.is_closing()
    crank.turn(plane, 1.0)
    assert wire.aborted
    await rest()
    assert not plane.context.metrics.connections["downstream"]
