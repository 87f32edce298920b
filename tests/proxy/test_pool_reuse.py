"""When an upstream connection may be reused, and when a request may be sent again.

Reusing a poisoned connection would give one client's answer to another, and repeating a POST could
buy twice. RFC 9110 section 9.2.2, RFC 9112 sections 6.3, 9.3 and 9.3.1.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.peers.http_text import chunked
from tests.peers.patience import until
from tests.peers.raw_client import TruncatedError, build, fetch
from tests.peers.scripted_upstream import CLOSE, EARLY, OK, RESET, WATCH, YIELD, reply
from tests.peers.stack import PUBLIC, Stack, stack

if TYPE_CHECKING:
    from tests.peers.scripted_upstream import Action, Script, ScriptedUpstream

POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SETTLE = 0.01  # seconds for the other side to notice an event on loopback


async def test_connections_are_reused(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """Consecutive requests of different clients share one upstream connection."""
    for number in range(5):
        body = b"x" if number % 2 else None
        assert (await proxy.ask(build("POST" if body else "GET", "/", body=body))).status == 200
    assert len(upstream.connections) == 1


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        pytest.param("GET", reply(b"fine") + POISON, id="second-response"),
        pytest.param("GET", reply(b"fine") + b"\r\n", id="crlf"),
        pytest.param("GET", reply(b"fine") + b"x", id="one-octet"),
        pytest.param("GET", CHUNKED + chunked(b"fine") + POISON, id="after-chunked"),
        pytest.param("HEAD", reply(b"fine"), id="head-with-body"),
        pytest.param("HEAD", reply(b"") + POISON, id="head-and-response"),
        pytest.param("GET", b"HTTP/1.1 204 No Content\r\n\r\n" + POISON, id="after-204"),
        pytest.param(
            "GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nfine", id="304-with-body"
        ),
    ],
)
@pytest.mark.parametrize("when", ["at-once", "late"])
async def test_octets_after_the_answer_are_nobodys(
    upstream: ScriptedUpstream, proxy: Stack, method: str, answer: bytes, when: str
) -> None:
    """Octets after a complete answer are dropped with their connection; no client sees them."""
    head = answer.index(b"\r\n\r\n") + 4
    end = head if method == "HEAD" or b" 204 " in answer or b" 304 " in answer else None
    end = end or (answer.index(b"fine") + 4 if b"chunked" not in answer else answer.index(POISON))
    script: Script = [answer[:end], YIELD, answer[end:]] if when == "late" else [answer]
    upstream.scripts = [script, [OK]]
    async with proxy.client() as client:
        first = await client.ask(build(method, "/"))
        assert first.body == (b"fine" if end > head else b"")
        await asyncio.sleep(SETTLE)
        assert (await client.ask(build("GET", "/next"))).body == b"ok"
    assert (await proxy.get("/other")).body == b"ok"
    assert len(upstream.connections) == 2


@pytest.mark.parametrize("ending", [CLOSE, RESET], ids=["fin", "rst"])
async def test_connection_that_ends_while_idle(
    upstream: ScriptedUpstream, proxy: Stack, ending: Action
) -> None:
    """An idle connection that the upstream has ended is not used, not even for a POST."""
    upstream.scripts = [[OK, ending]]
    for _ in range(6):
        assert (await proxy.ask(build("POST", "/", body=b"x"))).status == 200
        await asyncio.sleep(SETTLE)
    assert len(upstream.requests) == len(upstream.connections) == 6


@pytest.mark.parametrize("ending", [CLOSE, RESET], ids=["fin", "rst"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_stale_connection_is_retried_once(
    upstream: ScriptedUpstream, proxy: Stack, method: str, ending: Action
) -> None:
    """A repeatable request is retried when its reused connection ends as it is sent."""
    upstream.scripts = [[OK], [EARLY, ending], [OK]]
    async with proxy.client() as client:
        assert (await client.ask(build("GET", "/first"))).status == 200
        assert (await client.ask(build(method, "/second"))).status == 200
    assert [seen.target for seen in upstream.requests] == [b"/first", b"/second", b"/second"]
    assert [seen.connection for seen in upstream.requests] == [0, 0, 1]
    assert upstream.requests[1].head == upstream.requests[2].head


@pytest.mark.parametrize("ending", [CLOSE, RESET], ids=["fin", "rst"])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("body", [b"", b"buy"], ids=["empty", "body"])
async def test_unrepeatable_request_is_sent_once(
    upstream: ScriptedUpstream, proxy: Stack, method: str, body: bytes, ending: Action
) -> None:
    """A POST or PATCH whose connection ends gets 502 and is never sent again."""
    upstream.scripts = [[OK], [ending], [OK]]
    async with proxy.client() as client:
        assert (await client.ask(build("GET", "/"))).status == 200
        assert (await client.ask(build(method, "/", body=body))).status == 502
    assert len(upstream.requests) == 2


async def test_retry_goes_to_a_fresh_connection(upstream: ScriptedUpstream) -> None:
    """The single retry opens a new connection even if other idle connections exist."""
    slow: Script = [YIELD, OK]
    upstream.scripts = [slow, slow, slow, slow, [EARLY, RESET], [OK]]
    async with stack(upstream.url, routes=PUBLIC) as proxy:
        answers = await asyncio.gather(*(proxy.get("/") for _ in range(4)))
        assert [answer.status for answer in answers] == [200] * 4
        idle = len(upstream.connections)
        assert (await proxy.get("/again")).status == 200
    assert upstream.requests[-1].connection == idle


async def test_only_one_retry(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """If the new connection of a retry ends as well, there is no third attempt."""
    upstream.scripts = [[OK], [CLOSE]]
    async with proxy.client() as client:
        assert (await client.ask(build("GET", "/"))).status == 200
        assert (await client.ask(build("GET", "/"))).status == 502
    assert len(upstream.requests) == 3


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"H", id="one-octet"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: ", id="half-a-head"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\n\r\n", id="interim"),
    ],
)
async def test_no_retry_once_an_answer_began(
    upstream: ScriptedUpstream, proxy: Stack, start: bytes
) -> None:
    """Once the first octet of an answer has arrived, the request is not sent again."""
    upstream.scripts = [[OK], [start, YIELD, CLOSE], [OK]]
    async with proxy.client() as client:
        assert (await client.ask(build("GET", "/"))).status == 200
        assert (await client.ask(build("GET", "/"))).status == 502
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("framing", ["until-close", "close", "http-1.0"])
async def test_closing_answers_are_not_reused(
    upstream: ScriptedUpstream, proxy: Stack, framing: str
) -> None:
    """A connection is not reused after an answer that announces its end, even if it stays open."""
    heads = {
        "close": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        "http-1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "until-close": b"HTTP/1.1 200 OK\r\n\r\nok",
    }
    script: Script = [heads[framing], CLOSE if framing == "until-close" else WATCH]
    upstream.scripts = [script]
    for _ in range(3):
        assert (await proxy.get("/")).body == b"ok"
    assert len(upstream.connections) == 3


async def test_cancelled_download_is_not_reused(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """A connection with an unread part of an answer is closed and never lent again."""
    upstream.scripts = [[reply(b"S" * 200_000)], [OK]]
    async with proxy.client() as client:
        await client.send(build("GET", "/"))
        await client.head()
        client.reset()
    await asyncio.sleep(SETTLE)
    for _ in range(3):
        assert (await proxy.get("/")).body == b"ok"


async def test_answer_before_the_request_is_refused(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """Octets received on an idle connection are never taken for the next answer."""
    upstream.scripts = [[OK, YIELD, POISON], [OK]]
    async with proxy.client() as client:
        assert (await client.ask(build("GET", "/"))).body == b"ok"
        for _ in range(3):
            await asyncio.sleep(SETTLE)
            try:
                assert (await client.ask(build("GET", "/"))).body == b"ok"
            except TruncatedError:
                pytest.fail("a poisoned idle connection cost the next client its answer")


async def test_idle_connections_are_given_up(upstream: ScriptedUpstream) -> None:
    """The sidecar closes a pooled connection after its idle time."""
    upstream.scripts = [[OK]]
    async with stack(upstream.url, routes=PUBLIC, upstream_idle_timeout="50ms") as proxy:
        assert (await proxy.get("/")).status == 200
        await upstream.wait(lambda: upstream.connections[0].ended_how == "eof", 2)
        assert (await proxy.get("/")).status == 200
    assert len(upstream.connections) == 2


async def test_an_idle_control_plane_is_given_up(proxy: Stack) -> None:
    """Once logins stop, the control plane keeps no task and no connection."""

    async def status() -> dict[str, Any]:
        answer = await fetch(proxy.sidecar.admin_port, build("GET", "/status"))
        found: dict[str, Any] = answer.json()
        return found

    before = await status()
    for _ in range(3):
        await proxy.login()
    there = await status()
    assert there["connections"]["upstream"] == 1
    assert there["tasks"] > before["tasks"]
    await until(lambda: not proxy.sidecar.metrics.connections["upstream"])
    assert (await status())["tasks"] == before["tasks"]
