"""HTTP/1.0 clients (RFC 9112 sections 6.1 and 9.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.peers.http_text import chunked
from tests.peers.raw_client import TruncatedError, build
from tests.peers.scripted_upstream import CLOSE, YIELD, reply

if TYPE_CHECKING:
    from tests.peers.scripted_upstream import ScriptedUpstream
    from tests.peers.stack import Stack

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_connection_closes_after_the_answer(proxy: Stack) -> None:
    """An HTTP/1.0 connection without keep-alive ends after the answer."""
    async with proxy.client() as client:
        assert (await client.ask(build("GET", "/", version="1.0"))).body == b"ok"
        assert await client.ended() == "eof"


async def test_keep_alive_is_granted_and_said(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """An HTTP/1.0 client that asks for keep-alive gets it, and the answer says so."""
    async with proxy.client() as client:
        for _ in range(3):
            request = build("GET", "/", "Connection: Keep-Alive", version="1.0")
            answer = await client.ask(request)
            assert answer.body == b"ok"
            assert b"keep-alive" in answer.fields.members("connection")


async def test_host_is_optional(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """HTTP/1.0 requires no Host; the upstream, asked in HTTP/1.1, still gets exactly one."""
    answer = await proxy.ask(build("GET", "/", version="1.0", host=None))
    assert answer.status == 200
    seen = await upstream.arrived()
    assert seen.line == b"GET / HTTP/1.1"
    assert len(seen.fields.all("host")) == 1


@pytest.mark.parametrize("lines", [(), ("Connection: keep-alive",)], ids=["plain", "keep-alive"])
async def test_chunked_answer_is_unwrapped(
    upstream: ScriptedUpstream, proxy: Stack, lines: tuple[str, ...]
) -> None:
    """An HTTP/1.0 client never gets chunks; the end of the connection ends the body."""
    upstream.scripts = [[CHUNKED + b"5\r\nfi", YIELD, b"rst\r\n" + chunked(b"-second")]]
    async with proxy.client() as client:
        answer = await client.ask(build("GET", "/", *lines, version="1.0"))
        assert answer.body == b"first-second"
        assert "transfer-encoding" not in answer.fields
        assert b"keep-alive" not in answer.fields.members("connection")


async def test_cut_chunked_answer_is_an_abort(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """An incomplete body that only the end of the connection delimits ends with a reset."""
    upstream.scripts = [[CHUNKED + b"5\r\nfirst\r\n", YIELD, CLOSE]]
    async with proxy.client() as client:
        with pytest.raises(TruncatedError) as caught:
            await client.ask(build("GET", "/", version="1.0"))
        assert caught.value.how == "reset"


async def test_connection_close_of_http_1_1(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """`Connection: close` from an HTTP/1.1 client is echoed and obeyed, and not forwarded."""
    async with proxy.client() as client:
        answer = await client.ask(build("GET", "/", "Connection: close"))
        assert answer.closes
        assert await client.ended() == "eof"
    assert b"close" not in (await upstream.arrived()).fields.members("connection")


async def test_upstream_close_is_not_the_clients(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """An upstream that closes after each answer does not close the client's connection."""
    upstream.scripts = [[reply(b"x", "200 OK", "Connection: close"), CLOSE]]
    async with proxy.client() as client:
        for _ in range(3):
            answer = await client.ask(build("GET", "/"))
            assert answer.body == b"x"
            assert not answer.closes
    assert len(upstream.connections) == 3
