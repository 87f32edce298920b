"""A line that ends with LF alone is refused at once, not when a time limit ends the wait for CRLF.

RFC 9112 section 2.2 allows to accept such a line, but two servers that differ about it see two
different messages.
"""

from __future__ import annotations

import pytest

from tests.proxy.memory_plane import Plane, rest

HEAD = b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"GET /x HTTP/1.1\n", id="request-line"),
        pytest.param(b"GET /x HTTP/1.1\nHost: h\n\n", id="whole-head"),
        pytest.param(b"GET /x HTTP/1.1\r\nHost: h\n", id="field-line"),
        pytest.param(b"GET /x HTTP/1.1\r\nHost: h\r\n\n", id="empty-line"),
        pytest.param(HEAD + b"5\n", id="chunk-size-line"),
        pytest.param(HEAD + b"5;a=b\nhello", id="chunk-extension"),
        pytest.param(HEAD + b"5\r\nhello\n", id="end-of-a-chunk"),
        pytest.param(HEAD + b"0\r\nX-Sum: 1\n", id="trailer"),
        pytest.param(HEAD + b"0\r\n\n", id="end-of-the-trailers"),
    ],
)
async def test_a_request_is_refused_at_once(sent: bytes) -> None:
    """The client gets 400 without any time limit, and the upstream never a whole request."""
    plane = Plane()
    wire = plane.connect()
    forwarded = await plane.ask(wire, sent)
    assert wire.take().startswith(b"HTTP/1.1 400 ")
    assert not forwarded.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("cut", [1, 14, 17, 22, 27])
async def test_a_head_in_pieces_is_no_bare_line_feed(cut: int) -> None:
    """A piece may end between CR and LF."""
    plane = Plane()
    wire = plane.connect()
    request = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n"
    assert await plane.ask(wire, request[:cut]) == b""
    assert (await plane.ask(wire, request[cut:])).startswith(b"GET /x ")


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\n\n"]
)
async def test_an_answer_is_refused_at_once(answer: bytes) -> None:
    """The client gets 502, and the upstream connection is not used again."""
    plane = Plane()
    wire = plane.connect()
    wire.feed(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
    await rest()
    (upstream,) = plane.connector.wires
    upstream.feed(answer)
    await rest()
    assert wire.take().startswith(b"HTTP/1.1 502 ")
    assert upstream.is_closing()
