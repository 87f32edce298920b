"""How the byte-counting client reads bodies."""

from __future__ import annotations

import io

import pytest

from bench import transfer


def test_chunked_body_is_counted_without_its_framing() -> None:
    """Only the data of a chunked body is counted; chunk sizes are hexadecimal."""
    body = b"a\r\n0123456789\r\n3\r\nabc\r\n0\r\n\r\n"
    assert transfer.read_chunked(io.BytesIO(body)) == 13


@pytest.mark.parametrize(
    ("available", "counted"),
    [pytest.param(10, 10, id="whole"), pytest.param(7, 7, id="cut-short")],
)
def test_a_body_cut_short_is_counted_as_far_as_it_came(available: int, counted: int) -> None:
    """Of a truncated body, the bytes that arrived are counted."""
    assert transfer.discard(io.BytesIO(b"x" * available), 10) == counted


def test_request_head_names_its_framing() -> None:
    """A request head has the given framing header and closes the connection."""
    head = transfer.request_head("POST", "/sink", "t", "Content-Length: 3")
    assert head.startswith(b"POST /sink HTTP/1.1\r\n")
    assert b"\r\nContent-Length: 3\r\nConnection: close\r\n\r\n" in head
