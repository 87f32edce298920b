"""Bodies and their framing, both ways (RFC 9112 sections 6 and 7; RFC 9110 sections 6.4 and 15)."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.peers.http_text import chunked
from tests.peers.raw_client import build
from tests.peers.scripted_upstream import CLOSE, OK, YIELD, Connection, Received, reply

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.peers.byte_stream import ByteStream
    from tests.peers.scripted_upstream import Script, ScriptedUpstream
    from tests.peers.stack import Stack

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
NASTY = b"\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nX" + bytes(range(256))


async def send_split(stream: ByteStream, data: bytes, cuts: Iterable[int]) -> None:
    """Write the data in pieces, yielding to the event loop after each."""
    bounds = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in pairwise(bounds):
        await stream.send(data[start:end])
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        pytest.param(reply(b""), b"", id="length-0"),
        pytest.param(reply(NASTY), NASTY, id="length"),
        pytest.param(CHUNKED + chunked(b"one", b"two", NASTY), b"onetwo" + NASTY, id="chunked"),
        pytest.param(CHUNKED + b"0\r\n\r\n", b"", id="chunked-empty"),
        pytest.param(
            CHUNKED + b'3;a="b;c"\r\none\r\n000A ; x\r\n0123456789\r\n0;last\r\n\r\n',
            b"one0123456789",
            id="chunk-extensions",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-ENCODING:  Chunked \r\n\r\n" + chunked(b"x"),
            b"x",
            id="chunked-odd-case",
        ),
    ],
)
@pytest.mark.parametrize("way", ["whole", "bytewise", "head-apart"])
async def test_response_body(
    upstream: ScriptedUpstream, proxy: Stack, answer: bytes, body: bytes, way: str
) -> None:
    """A response body arrives intact however it is split, and both connections are reused."""

    async def bytewise(connection: Connection, request: Received) -> None:
        await connection.trickle(answer)

    head, body_at = answer.partition(b"\r\n\r\n")[0], answer.index(b"\r\n\r\n") + 4
    apart: Script = [head, b"\r\n\r\n", YIELD, answer[body_at:]]
    ways: dict[str, Script] = {"whole": [answer], "bytewise": [bytewise], "head-apart": apart}
    upstream.scripts = [ways[way]]
    async with proxy.client() as client:
        for _ in range(2):
            assert (await client.ask(build("GET", "/"))).body == body
    assert len(upstream.connections) == 1


@pytest.mark.parametrize("ending", ["eof", "length-of-http-1.0"])
async def test_response_until_close(upstream: ScriptedUpstream, proxy: Stack, ending: str) -> None:
    """A body that is delimited by the end of the upstream connection arrives whole."""
    head = b"HTTP/1.1 200 OK\r\n\r\n" if ending == "eof" else b"HTTP/1.0 200 OK\r\n\r\n"
    upstream.scripts = [[head + b"first", YIELD, NASTY, CLOSE]]
    for _ in range(2):
        assert (await proxy.get("/")).body == b"first" + NASTY


async def test_http_1_0_upstream_connection_is_not_reused(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """An HTTP/1.0 answer without `keep-alive` is the last on its connection (9112 section 9.3)."""
    upstream.scripts = [[b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"]]
    async with proxy.client() as client:
        for _ in range(2):
            assert (await client.ask(build("GET", "/"))).body == b"ok"
    assert len(upstream.connections) == 2


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("status", "line"),
    [
        pytest.param("204 No Content", b"", id="204"),
        pytest.param("304 Not Modified", b"ETag: 1\r\n", id="304"),
        pytest.param("304 Not Modified", b"Content-Length: 1234\r\n", id="304-with-length"),
        pytest.param("304 Not Modified", b"Transfer-Encoding: chunked\r\n", id="304-chunked"),
    ],
)
async def test_bodyless_status(
    upstream: ScriptedUpstream, proxy: Stack, method: str, status: str, line: bytes
) -> None:
    """A 204 or 304 ends with its head, whatever framing it declares (RFC 9112 section 6.3)."""
    head = f"HTTP/1.1 {status}\r\n".encode() + line + b"\r\n"
    upstream.scripts = [[head], [OK]]
    async with proxy.client() as client:
        answer = await client.ask(build(method, "/"))
        assert answer.status == int(status[:3])
        if line.startswith(b"Content"):
            assert answer.fields.one("content-length") == b"1234"
        assert (await client.ask(build("GET", "/next"))).body == b"ok"
    assert len(upstream.connections) == 1


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"Content-Length: 1000000", id="length"),
        pytest.param(b"Transfer-Encoding: chunked", id="chunked"),
        pytest.param(b"X: y", id="none"),
    ],
)
async def test_head_has_no_body(upstream: ScriptedUpstream, proxy: Stack, line: bytes) -> None:
    """The answer to HEAD ends with its head and keeps the Content-Length of the GET answer."""
    upstream.scripts = [[b"HTTP/1.1 200 OK\r\n" + line + b"\r\n\r\n"], [OK]]
    async with proxy.client() as client:
        answer = await client.ask(build("HEAD", "/"))
        assert answer.fields.all("content-length") == ([b"1000000"] if b"Len" in line else [])
        assert (await client.ask(build("GET", "/next"))).body == b"ok"


async def test_204_carries_no_framing(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """A 204 is sent without Content-Length and Transfer-Encoding (9112 6.1, 9110 8.6)."""
    upstream.scripts = [[b"HTTP/1.1 204 No Content\r\n\r\n"]]
    fields = (await proxy.get("/")).fields
    assert "content-length" not in fields
    assert "transfer-encoding" not in fields


@pytest.mark.parametrize("way", ["whole", "bytewise"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_request_body(
    upstream: ScriptedUpstream, proxy: Stack, framing: str, way: str
) -> None:
    """A request body arrives intact however it is split, and so does the next request."""
    body = NASTY * 2
    if framing == "length":
        wire = build("POST", "/up", body=body)
    else:
        wire = build("POST", "/up", "Transfer-Encoding: chunked") + chunked(b"a", body[1:], b"")
        body = b"a" + body[1:]
    wire += build("GET", "/next")
    async with proxy.client() as client:
        if way == "whole":
            await client.send(wire)
        else:
            await client.trickle(wire)
        assert (await client.response()).body == b"ok"
        assert (await client.response()).body == b"ok"
    assert [seen.target for seen in upstream.requests] == [b"/up", b"/next"]
    assert upstream.requests[0].body == body


async def test_request_without_body_has_no_framing(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """A GET without a body gets no framing headers; an empty POST keeps Content-Length 0."""
    await proxy.get("/")
    await proxy.ask(build("POST", "/", body=b""))
    first, second = upstream.requests
    assert "transfer-encoding" not in first.fields
    assert "content-length" not in first.fields
    assert second.fields.all("content-length") == [b"0"]


async def test_trailers_pass_both_ways(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """Trailer fields of requests and responses stay in the trailer section."""
    wire = CHUNKED.replace(b"\r\n\r\n", b"\r\nTrailer: X-Sum\r\n\r\n")
    upstream.scripts = [[wire + chunked(b"data", trailers=b"X-Sum: 42\r\nX-Other: y\r\n")]]
    head = build("POST", "/", "Transfer-Encoding: chunked", "Trailer: X-Check")
    async with proxy.client() as client:
        await client.send(head + chunked(b"body", trailers=b"X-Check: 7\r\n"))
        answer = await client.response("POST")
        assert answer.trailers.items == [(b"X-Sum", b"42"), (b"X-Other", b"y")]
        assert "x-sum" not in answer.fields
        assert (await client.ask(build("GET", "/next"))).body == b"data"
    seen = upstream.requests[0]
    assert seen.trailers == b"X-Check: 7\r\n"
    assert "x-check" not in seen.fields


@pytest.mark.parametrize(
    "trailer",
    ["Content-Length: 3", "Transfer-Encoding: chunked", "Host: evil", "Authorization: Bearer x"],
)
async def test_trailers_that_frame_or_route_do_not_pass(
    upstream: ScriptedUpstream, proxy: Stack, trailer: str
) -> None:
    """A field that is not allowed in trailers (9110 section 6.5.1) is dropped or gets a 400."""
    head = build("POST", "/", "Transfer-Encoding: chunked")
    answer = await proxy.ask(head + chunked(b"body", trailers=trailer.encode() + b"\r\n"))
    if answer.status != 400:
        assert trailer.encode() not in (await upstream.arrived()).trailers


REQUESTS = st.lists(st.binary(max_size=300), min_size=1, max_size=4)


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    up=REQUESTS,
    down=REQUESTS,
    cuts=st.lists(st.integers(0, 5000), max_size=12),
    framings=st.tuples(st.booleans(), st.booleans()),
)
async def test_any_split_of_any_body(
    *,
    upstream: ScriptedUpstream,
    proxy: Stack,
    up: list[bytes],
    down: list[bytes],
    cuts: list[int],
    framings: tuple[bool, bool],
) -> None:
    """However the octets of a message are split, the other side receives the same message."""

    async def answer(connection: Connection, request: Received) -> None:
        whole = reply(b"".join(down)) if framings[0] else CHUNKED + chunked(*down)
        await send_split(connection, whole, cuts)

    upstream.scripts = [[answer]]
    upstream.requests.clear()
    if framings[1]:
        wire = build("PUT", "/", body=b"".join(up))
    else:
        wire = build("PUT", "/", "Transfer-Encoding: chunked") + chunked(*up)
    async with proxy.client() as client:
        await send_split(client, wire * 2, cuts)
        for _ in range(2):
            assert (await client.response("PUT")).body == b"".join(down)
    assert [seen.body for seen in upstream.requests] == [b"".join(up)] * 2
