"""An upstream's answer that is not valid HTTP/1.1 becomes a 502, and its connection is not reused.

RFC 9112 sections 4, 5 and 6.3. The framing of an upstream is trusted no more than a client's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.peers.raw_client import TruncatedError, build
from tests.peers.scripted_upstream import CLOSE, OK, YIELD, reply
from tests.peers.stack import PUBLIC, Stack, stack

if TYPE_CHECKING:
    from tests.peers.scripted_upstream import ScriptedUpstream

FIRST: Final = b"HTTP/1.1 200 OK"
CHUNKED: Final = b"Transfer-Encoding: chunked"
ZERO: Final = b"0\r\n\r\n"


def head(*lines: bytes, first: bytes = FIRST) -> bytes:
    """Build a response head from these exact lines."""
    return b"\r\n".join([first, *lines, b"", b""])


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(head(b"Content-Length: 5", CHUNKED) + ZERO, id="cl-and-te"),
        pytest.param(head(CHUNKED, b"Content-Length: 5") + ZERO, id="te-and-cl"),
        pytest.param(head(b"Content-Length: 2", b"Content-Length: 3") + b"okk", id="cl-twice"),
        pytest.param(head(b"Content-Length: 2, 3") + b"okk", id="cl-list"),
        pytest.param(head(b"Content-Length: -2") + b"ok", id="cl-negative"),
        pytest.param(head(b"Content-Length: +2") + b"ok", id="cl-plus"),
        pytest.param(head(b"Content-Length: 0x2") + b"ok", id="cl-hex"),
        pytest.param(head(b"Content-Length: two") + b"ok", id="cl-word"),
        pytest.param(head(b"Content-Length: ") + b"ok", id="cl-empty"),
        pytest.param(head(b"Content-Length: " + b"9" * 40) + b"ok", id="cl-overflow"),
        pytest.param(head(b"Transfer-Encoding: gzip, chunked") + ZERO, id="te-gzip-chunked"),
        pytest.param(head(b"Transfer-Encoding: chunked, gzip") + ZERO, id="te-not-last"),
        pytest.param(head(b"Transfer-Encoding: chunked, chunked") + ZERO, id="te-twice"),
        pytest.param(head(CHUNKED, CHUNKED) + ZERO, id="te-two-lines"),
        pytest.param(head(b"Transfer-Encoding: xchunked") + ZERO, id="te-unknown"),
        pytest.param(head(b"Transfer-Encoding: \x0bchunked") + ZERO, id="te-vt"),
        pytest.param(head(b"Transfer-Encoding : chunked") + ZERO, id="te-space-before-colon"),
        pytest.param(head(b"A : b", b"Content-Length: 0"), id="space-before-colon"),
        pytest.param(head(b": b", b"Content-Length: 0"), id="empty-name"),
        pytest.param(head(b"no colon", b"Content-Length: 0"), id="no-colon"),
        pytest.param(head(b"A B: c", b"Content-Length: 0"), id="name-with-space"),
        pytest.param(head(b"A\0: b", b"Content-Length: 0"), id="nul-in-name"),
        pytest.param(head(b"A: b\0c", b"Content-Length: 0"), id="nul-in-value"),
        pytest.param(head(b"A: b\rSet-Cookie: x", b"Content-Length: 0"), id="cr-in-value"),
        pytest.param(head(b"Content-Length: 0", first=b"HTTP/1.1 200 O\rK"), id="cr-in-reason"),
        pytest.param(head(b"Content-Length: 0", first=b"HTTP/1.1 200 O\0K"), id="nul-in-reason"),
        pytest.param(head(b"Content-Length: 0", first=b"HTTP/1.1 20 OK"), id="status-two-digits"),
        pytest.param(head(b"Content-Length: 0", first=b"HTTP/1.1 2000 OK"), id="status-four"),
        pytest.param(head(b"Content-Length: 0", first=b"HTTP/1.1 099 OK"), id="status-099"),
        pytest.param(head(b"Content-Length: 0", first=b"HTTP/1.1 000 OK"), id="status-000"),
        pytest.param(head(b"Content-Length: 0", first=b"HTTP/1.1 abc OK"), id="status-word"),
        pytest.param(head(b"Content-Length: 0", first=b"HTTP/1.1 -200 OK"), id="status-minus"),
        pytest.param(head(b"Content-Length: 0", first=b"HTTP/2.0 200 OK"), id="http-2.0"),
        pytest.param(head(b"Content-Length: 0", first=b"HTTP/3.1 200 OK"), id="http-3.1"),
        pytest.param(head(b"Content-Length: 0", first=b"HTTP/11 200 OK"), id="http-dotless"),
        pytest.param(head(b"Content-Length: 0", first=b"ICY 200 OK"), id="icy"),
        pytest.param(b"<html>hello</html>\r\n\r\n", id="http-0.9"),
        pytest.param(head(b"A: " + b"b" * 70_000, b"Content-Length: 0"), id="giant-header"),
        pytest.param(head(*[b"A: b"] * 10_000, b"Content-Length: 0"), id="many-headers"),
        pytest.param(head(first=b"HTTP/1.1 103 Hint") * 100_000, id="flood-of-interim"),
        pytest.param(head(first=b"HTTP/1.1 101 Switching Protocols"), id="unrequested-101"),
        pytest.param(
            head(b"Upgrade: websocket", b"Connection: Upgrade", first=b"HTTP/1.1 101 x") + OK,
            id="unrequested-upgrade",
        ),
    ],
)
async def test_malformed_answer_is_502(
    upstream: ScriptedUpstream, proxy: Stack, raw: bytes
) -> None:
    """The client gets only a problem document, and the next request uses a new connection."""
    upstream.scripts = [[raw], [OK]]
    async with proxy.client() as client:
        answer = await client.ask(build("GET", "/"))
        assert answer.status == 502
        assert answer.fields.one("content-type").startswith(b"application/problem+json")
        assert "a" not in answer.fields
        assert (await client.ask(build("GET", "/next"))).body == b"ok"
    assert len(upstream.connections) == 2


async def test_folded_header_is_refused_or_unfolded(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """A folded header line in an answer never reaches the client folded (9112 section 5.2)."""
    upstream.scripts = [[head(b"A: b\r\n Set-Cookie: c", b"Content-Length: 0")]]
    answer = await proxy.get("/")
    if answer.status != 502:
        assert answer.fields.one("a") == b"b Set-Cookie: c"


async def test_line_feed_alone_never_reaches_the_client(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """An answer whose lines end with a bare LF becomes a 502 or is rewritten with CRLF."""
    upstream.scripts = [[b"HTTP/1.1 200 OK\nA: b\nContent-Length: 2\n\nok", YIELD, CLOSE]]
    answer = await proxy.get("/")  # the client's parser accepts CRLF only
    assert answer.status in {200, 502}


async def test_chunked_http_1_0_answer_ends_its_connection(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """An HTTP/1.0 answer with Transfer-Encoding has faulty framing: no reuse (9112 6.1)."""
    lines = (CHUNKED, b"Connection: keep-alive")
    upstream.scripts = [[head(*lines, first=b"HTTP/1.0 200 OK") + ZERO], [OK]]
    assert (await proxy.get("/")).status in {200, 502}
    assert (await proxy.get("/")).body == b"ok"
    assert len(upstream.connections) == 2


@pytest.mark.parametrize("length", ["2, 2", "2\r\nContent-Length: 2"], ids=["list", "lines"])
async def test_repeated_equal_length_is_refused_or_made_one(
    upstream: ScriptedUpstream, proxy: Stack, length: str
) -> None:
    """Equal repeated lengths are merged or refused, and never forwarded repeated (9110 8.6)."""
    upstream.scripts = [[f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nok".encode()]]
    answer = await proxy.get("/")
    if answer.status != 502:
        assert answer.fields.one("content-length") == b"2"
        assert answer.body == b"ok"


async def test_answer_within_the_limits_passes(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """A large head within the limits passes."""
    lines = [f"X-{n}: {'y' * 200}" for n in range(90)]
    upstream.scripts = [[reply(b"ok", "200 OK", *lines)]]
    answer = await proxy.get("/")
    assert answer.status == 200
    assert len(answer.fields.all("x-89")) == 1


async def test_endless_head_is_bounded(upstream: ScriptedUpstream) -> None:
    """A head without an end is cut off by its size, long before the time limit."""
    async with stack(upstream.url, routes=PUBLIC) as proxy:
        upstream.scripts = [[b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200_000]]
        assert (await proxy.get("/")).status == 502


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"5;" + b"x" * 70_000 + b"\r\nhello\r\n0\r\n\r\n", id="giant-extension"),
        pytest.param(b"5\r\nhello\r\n0\r\nA: " + b"b" * 70_000 + b"\r\n\r\n", id="giant-trailer"),
        pytest.param(b"5\r\nhello\r\n0\r\nA : b\r\n\r\n", id="bad-trailer"),
        pytest.param(b"5\r\nhello\r\n0\r\nA: b\0\r\n\r\n", id="nul-in-trailer"),
        pytest.param(b"5\nhello\r\n0\r\n\r\n", id="lf-after-size"),
        pytest.param(b"5\r\nhello\n0\r\n\r\n", id="lf-after-data"),
        pytest.param(b"5;a=\nb\r\nhello\r\n0\r\n\r\n", id="lf-in-extension"),
        pytest.param(b"f" * 30 + b"\r\nhello", id="size-overflow"),
    ],
)
async def test_malformed_chunks_are_not_passed_on(
    upstream: ScriptedUpstream, proxy: Stack, body: bytes
) -> None:
    """A malformed chunked body is cut off, or becomes a 502 if nothing has been sent yet."""
    upstream.scripts = [[head(CHUNKED) + body], [OK]]
    async with proxy.client() as client:
        try:
            assert (await client.ask(build("GET", "/"))).status == 502
        except TruncatedError as end:
            assert not end.body.endswith(b"0\r\n\r\n")  # noqa: PT017
    assert (await proxy.get("/next")).body == b"ok"
