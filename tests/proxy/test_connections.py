"""Client connections: pipelining, early answers, clients that leave, and time limits."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.peers.http_text import chunked
from tests.peers.patience import PATIENCE
from tests.peers.raw_client import TruncatedError, build
from tests.peers.scripted_upstream import (
    CLOSE,
    EARLY,
    OK,
    RESET,
    STALL,
    WATCH,
    YIELD,
    Connection,
    Received,
    reply,
)
from tests.peers.stack import PUBLIC, Stack, stack

if TYPE_CHECKING:
    from tests.peers.scripted_upstream import Action, Script, ScriptedUpstream

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def echo(request: Received) -> Script:
    """Answer with the target and the body of the request."""
    return [reply(request.target + b" " + request.body)]


@pytest.mark.parametrize("way", ["whole", "bytewise"])
async def test_pipelined_answers_come_in_order(
    upstream: ScriptedUpstream, proxy: Stack, way: str
) -> None:
    """Pipelined requests, with and without bodies, are answered in order."""
    upstream.scripts = echo
    wire = b"".join(
        build("POST", f"/{n}", body=b"%d" % n) if n % 3 else build("GET", f"/{n}")
        for n in range(40)
    )
    async with proxy.client() as client:
        await (client.send(wire) if way == "whole" else client.trickle(wire))
        for n in range(40):
            expected = f"/{n} {n if n % 3 else ''}".encode()
            assert (await client.response()).body == expected


async def test_pipelined_answer_waits_for_the_one_before(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """A fast second answer does not overtake a slow first one."""
    upstream.scripts = lambda request: (
        [STALL, *echo(request)] if request.target == b"/slow" else echo(request)
    )
    async with proxy.client() as client:
        await client.send(build("GET", "/slow") + build("GET", "/quick"))
        await upstream.arrived()
        await client.silence()
        upstream.release.set()
        assert (await client.response()).body == b"/slow "
        assert (await client.response()).body == b"/quick "


async def test_pipelined_refusal_keeps_its_place(upstream: ScriptedUpstream) -> None:
    """The sidecar's own answers keep their place among the upstream's."""
    routes = ({"path": "/open/*", "access": "public"},)
    upstream.scripts = [[YIELD, YIELD, OK]]
    async with stack(upstream.url, routes=routes) as guarded, guarded.client() as client:
        paths = ["/open/1", "/closed", "/open/2", "/auth/verify", "/open/3"]
        await client.send(b"".join(build("GET", path) for path in paths))
        answers = [(await client.response()).status for _ in paths]
    assert answers == [200, 401, 200, 401, 200]


async def test_pipelining_stops_at_close(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """Requests after one with `Connection: close` are ignored (9112 section 9.6)."""
    async with proxy.client() as client:
        await client.send(build("GET", "/", "Connection: close") + build("GET", "/after"))
        assert (await client.response()).status == 200
        assert await client.rest() == b""
    assert [seen.target for seen in upstream.requests] == [b"/"]


async def test_empty_lines_before_a_request_are_ignored(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """An empty line before the request line is ignored (9112 section 2.2)."""
    async with proxy.client() as client:
        for _ in range(2):
            assert (await client.ask(b"\r\n" + build("GET", "/"), "GET")).status == 200


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("ending", [CLOSE, STALL], ids=["upstream-closes", "upstream-stays"])
async def test_early_answer_reaches_an_uploading_client(
    upstream: ScriptedUpstream, streaming: Stack, framing: str, ending: Action
) -> None:
    """An answer sent before the body was read reaches the client while it is still uploading."""
    upstream.scripts = [[EARLY, reply(b"no", "413 Content Too Large"), ending]]
    line = "Content-Length: 1000000" if framing == "length" else "Transfer-Encoding: chunked"
    async with streaming.client() as client:
        await client.send(build("POST", "/", line) + b"5\r\nhello\r\n")
        answer = await client.response("POST")
        assert (answer.status, answer.body) == (413, b"no")
    upstream.release.set()


async def test_early_answer_survives_a_client_that_only_writes_first(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """A client that sends its whole large body before it reads still gets the answer (9112 9.6)."""
    upstream.scripts = [[EARLY, reply(b"no", "413 Content Too Large"), CLOSE]]
    async with proxy.client() as client:
        await client.send(build("POST", "/", body=b"x" * (1 << 20)))
        assert (await client.response("POST")).status == 413


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_rest_of_an_upload_is_never_a_request(
    upstream: ScriptedUpstream, streaming: Stack, framing: str
) -> None:
    """After an early answer the unread body is discarded or the connection is closed."""
    poison = build("GET", "/poison")
    upstream.scripts = [[EARLY, reply(b"no", "413 Content Too Large"), STALL], [OK]]
    line = f"Content-Length: {len(poison) * 100}"
    line = line if framing == "length" else "Transfer-Encoding: chunked"
    rest = poison * 100 if framing == "length" else chunked(*[poison] * 100)
    async with streaming.client() as client:
        await client.send(build("POST", "/", line))
        assert (await client.response("POST")).status == 413
        upstream.release.set()
        try:
            await client.send(rest + build("GET", "/after"))
            assert (await client.response()).body == b"ok"
        except (TruncatedError, ConnectionError):
            pass  # closing the connection is equally correct
    assert b"/poison" not in [seen.target for seen in upstream.requests]


async def test_half_closed_client_gets_its_answer(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """A client that half-closes its connection still gets its pending answers."""
    upstream.scripts = [[STALL, reply(b"x" * 100_000)]]
    async with proxy.client() as client:
        await client.send(build("GET", "/") * 2)
        client.end()
        await upstream.arrived()
        await client.silence()
        upstream.release.set()
        for _ in range(2):
            assert len((await client.response()).body) == 100_000
        assert await client.ended() == "eof"


async def test_half_closed_client_gets_a_stream(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """A client that half-closes its connection still gets the rest of a streamed body."""
    upstream.scripts = [[CHUNKED, b"1\r\na\r\n", STALL, b"1\r\nb\r\n0\r\n\r\n"]]
    async with proxy.client() as client:
        await client.send(build("GET", "/"))
        await client.head()
        client.end()
        await client.until(b"a\r\n")
        upstream.release.set()
        assert (await client.chunked_body())[1] == b"b"


async def test_idle_client_that_closes_is_closed(proxy: Stack) -> None:
    """A client that half-closes between requests has its connection closed."""
    async with proxy.client() as client:
        await client.ask(build("GET", "/"))
        client.end()
        assert await client.ended() == "eof"


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("way", ["reset", "eof"])
async def test_cut_upload_is_aborted_upstream(
    upstream: ScriptedUpstream, streaming: Stack, framing: str, way: str
) -> None:
    """After a client leaves in mid-body, the upstream never sees a complete request."""
    upstream.scripts = [[OK]]
    line = "Content-Length: 1000" if framing == "length" else "Transfer-Encoding: chunked"
    async with streaming.client() as client:
        await client.send(build("POST", "/", line) + b"5\r\nhello\r\n")
        await upstream.arrived()
        client.reset() if way == "reset" else client.end()
        await upstream.wait(lambda: upstream.connections[0].ended_how is not None)
    assert not upstream.connections[0].received.endswith(b"0\r\n\r\n")
    assert upstream.requests[0].raw_body == b""


async def test_vanished_client_ends_a_waiting_upstream_request(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """An upstream that is still working on a request sees at once that its client is gone."""
    upstream.scripts = [[WATCH]]
    async with proxy.client() as client:
        await client.send(build("GET", "/"))
        await upstream.arrived()
        client.reset()
        await upstream.wait(lambda: upstream.connections[0].ended_how is not None)


@pytest.mark.parametrize("way", ["reset", "close"])
async def test_vanished_client_ends_a_download(
    upstream: ScriptedUpstream, proxy: Stack, way: str
) -> None:
    """An endless download stops when its client is gone."""

    async def endless(connection: Connection, request: Received) -> None:
        while not connection.writer.transport.is_closing():
            await connection.send(b"4\r\ntick\r\n")
            await asyncio.sleep(0.005)
        connection.ended_how = "gone"

    upstream.scripts = [[CHUNKED, endless]]
    async with proxy.client() as client:
        await client.send(build("GET", "/"))
        await client.until(b"tick")
        client.reset() if way == "reset" else client.close()
        await upstream.wait(lambda: upstream.connections[0].ended_how is not None)


async def test_nothing_leaks(upstream: ScriptedUpstream) -> None:
    """However exchanges end, afterwards the gauges are back to zero and the slots are free."""
    scripts: list[Script] = [[OK], [WATCH], [EARLY, CLOSE], [RESET], [CHUNKED, RESET], [STALL]]
    upstream.scripts = scripts * 4
    async with stack(upstream.url, routes=PUBLIC, upstream_max_connections=2) as proxy:
        for _ in range(4):
            for script in scripts:
                async with proxy.client() as client:
                    seen = len(upstream.requests)
                    await client.send(build("POST", "/", body=b"x"))
                    await upstream.arrived(seen + 1)
                    if script[-1] in {WATCH, STALL}:
                        client.reset()
                        continue
                    with contextlib.suppress(TruncatedError):
                        await client.response("POST")
        upstream.scripts = [[OK]]
        for _ in range(3):
            assert (await proxy.get("/")).status == 200
        assert await proxy.metric("sidecar_requests_in_flight") == 0
        assert await proxy.metric('sidecar_connections{side="downstream"}') == 0
        assert await proxy.metric('sidecar_connections{side="upstream"}') <= 2


@pytest.mark.parametrize("octets", [0, 40], ids=["silent", "trickling"])
async def test_slow_head_is_cut_off(upstream: ScriptedUpstream, octets: int) -> None:
    """A request head must be complete within the limit, even if octets keep arriving."""
    settings: dict[str, Any] = {"header_timeout": "100ms"}
    async with stack(upstream.url, routes=PUBLIC, **settings) as proxy, proxy.client() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nX: ")
        with contextlib.suppress(ConnectionError):
            for _ in range(octets):
                await client.send(b"y")
                await asyncio.sleep(0.005)
        async with asyncio.timeout(PATIENCE):
            answer = await client.rest()
    assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")
    assert upstream.requests == []


async def test_idle_connection_is_closed(upstream: ScriptedUpstream) -> None:
    """A connection that is idle for too long is closed without an answer."""
    settings: dict[str, Any] = {"idle_timeout": "50ms", "header_timeout": "50ms"}
    async with stack(upstream.url, routes=PUBLIC, **settings) as proxy, proxy.client() as client:
        assert (await client.ask(build("GET", "/"))).status == 200
        async with asyncio.timeout(PATIENCE):
            assert await client.rest() == b""


async def test_idle_limit_spares_a_slow_answer(upstream: ScriptedUpstream) -> None:
    """The idle limit does not apply while the client waits for the upstream's answer."""
    upstream.scripts = [[STALL, OK]]
    settings: dict[str, Any] = {"idle_timeout": "30ms", "header_timeout": "30ms"}
    async with stack(upstream.url, routes=PUBLIC, **settings) as proxy, proxy.client() as client:
        await client.send(build("GET", "/"))
        await client.silence(0.1)
        upstream.release.set()
        assert (await client.response()).status == 200
