"""Responses on a keep-alive connection, and the delay until a revoked token is refused."""

from __future__ import annotations

import socket
from contextlib import closing
from threading import Thread

import pytest

from bench.polling import Line, PollError, Revoked, parse, revoke
from bench.revocation import Stretch

ALLOWED = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
DENIED = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"
LOGGED_OUT = b"HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        pytest.param(ALLOWED, (200, len(ALLOWED)), id="with-body"),
        pytest.param(LOGGED_OUT, (204, len(LOGGED_OUT)), id="without"),
        pytest.param(ALLOWED + DENIED, (200, len(ALLOWED)), id="another-behind"),
        pytest.param(ALLOWED[:-1], None, id="body-not-whole"),
        pytest.param(ALLOWED[:20], None, id="head-not-whole"),
    ],
)
def test_answer_is_found_when_it_is_whole(answer: bytes, found: tuple[int, int] | None) -> None:
    """A complete response yields its status and size; an incomplete one yields None."""
    assert parse(answer) == found


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("Transfer-Encoding: chunked", id="chunked"),
        pytest.param("Connection: close", id="closing"),
    ],
)
def test_answer_without_an_end_of_its_own_is_an_error(line: str) -> None:
    """A chunked response or one that closes the connection is an error."""
    with pytest.raises(PollError, match="expected a length"):
        parse(f"HTTP/1.1 401 Unauthorized\r\n{line}\r\n\r\n".encode())


def serve(answers: list[bytes]) -> int:
    """Serve one connection with these responses and then close it; returns the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        connection, _ = listener.accept()
        with listener, connection:
            for answer in answers:
                connection.recv(4096)
                connection.sendall(answer)

    Thread(target=run, daemon=True).start()
    port: int = listener.getsockname()[1]
    return port


def test_others_are_asked_until_each_refuses() -> None:
    """Requests allowed after the logout are counted, and each refusal has its delay."""
    origin = Line(serve([LOGGED_OUT]))
    slow, quick = Line(serve([ALLOWED, ALLOWED, DENIED])), Line(serve([DENIED]))
    with closing(origin), closing(slow), closing(quick):
        done = revoke("a.b.c", origin, [slow, quick])
    assert done.let_in == 2
    assert len(done.delays) == 2
    assert all(delay > 0 for delay in done.delays)


@pytest.mark.parametrize(
    ("logout", "other"),
    [
        pytest.param(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", DENIED, id="logout"),
        pytest.param(LOGGED_OUT, b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", id="other"),
        pytest.param(LOGGED_OUT, b"", id="closed"),
    ],
)
def test_anything_else_than_yes_or_no_is_an_error(logout: bytes, other: bytes) -> None:
    """An unexpected status or a closed connection is an error and not taken for a refusal."""
    origin, asked = Line(serve([logout])), Line(serve([other]))
    with closing(origin), closing(asked), pytest.raises(PollError):
        revoke("a.b.c", origin, [asked])


def test_delays_are_shown_in_milliseconds() -> None:
    """A period lists the delays of all logouts in milliseconds and sums the allowed requests."""
    stretch = Stretch([Revoked([0.001, 0.002], 1), Revoked([0.003, 0.004], 2)], [], 0.0, 0.0)
    assert stretch.delays == [1.0, 2.0, 3.0, 4.0]
    assert stretch.let_in == 3
