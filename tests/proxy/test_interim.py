"""Interim responses and Expect (RFC 9110 sections 10.1.1 and 15.2)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.peers.raw_client import build
from tests.peers.scripted_upstream import EARLY, OK, READ_BODY, STALL, YIELD, reply
from tests.peers.stack import Stack, stack

if TYPE_CHECKING:
    from tests.peers.scripted_upstream import Script, ScriptedUpstream

EXPECT = "Expect: 100-continue"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x\r\n\r\n"


@pytest.mark.parametrize("script", [[HINTS * 2 + OK], [HINTS, YIELD, HINTS, YIELD, OK]])
async def test_early_hints_are_forwarded(
    upstream: ScriptedUpstream, proxy: Stack, script: Script
) -> None:
    """Each 103 reaches the client before the final answer, with its headers."""
    upstream.scripts = [script]
    async with proxy.client() as client:
        for _ in range(2):
            answer = await client.ask(build("GET", "/"))
            assert answer.body == b"ok"
            assert [hint.status for hint in answer.interim] == [103, 103]
            assert answer.interim[0].fields.one("link") == b"</a.css>; rel=preload"
            assert "content-length" not in answer.interim[0].fields
            assert "transfer-encoding" not in answer.interim[0].fields


async def test_early_hint_is_not_held_back(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """A 103 is forwarded before the upstream sends the final answer."""
    upstream.scripts = [[HINTS, STALL, OK]]
    async with proxy.client() as client:
        await client.send(build("GET", "/"))
        assert (await client.head()).status == 103
        upstream.release.set()
        assert (await client.response()).status == 200


async def test_http_1_0_client_gets_no_interim_response(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """An HTTP/1.0 client never receives a 1xx response (15.2)."""
    upstream.scripts = [[HINTS + OK]]
    answer = await proxy.ask(build("GET", "/", version="1.0"))
    assert (answer.status, answer.interim, answer.body) == (200, [], b"ok")


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_expectation_is_answered_once(
    upstream: ScriptedUpstream, proxy: Stack, framing: str
) -> None:
    """The client gets exactly one 100 before it sends its body, and the body arrives."""
    upstream.scripts = [[EARLY, b"HTTP/1.1 100 Continue\r\n\r\n", READ_BODY, OK]]
    line = "Content-Length: 4" if framing == "length" else "Transfer-Encoding: chunked"
    async with proxy.client() as client:
        for turn in range(2):
            await client.send(build("POST", "/", EXPECT, line))
            assert (await client.head()).status == 100
            await client.send(b"body" if framing == "length" else b"4\r\nbody\r\n0\r\n\r\n")
            answer = await client.response("POST")
            assert (answer.status, answer.interim) == (200, [])
            assert upstream.requests[turn].body == b"body"


async def test_expectation_of_an_upstream_that_never_says_100(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """A client that stops waiting for 100 and sends its body is served (10.1.1)."""
    async with proxy.client() as client:
        await client.send(build("POST", "/", "expect: 100-Continue", "Content-Length: 4"))
        await asyncio.sleep(0.02)
        await client.send(b"body")
        answer = await client.response("POST")
        assert (answer.status, len(answer.interim) <= 1) == (200, True)
        assert (await client.ask(build("GET", "/"))).status == 200


async def test_expectation_with_the_body_already_sent(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """A client that sends its body without waiting gets its answer and at most one 100."""
    async with proxy.client() as client:
        answer = await client.ask(build("POST", "/", EXPECT, body=b"body"))
        assert answer.status == 200
        assert len(answer.interim) <= 1
        assert (await client.ask(build("GET", "/"))).status == 200


async def test_expectation_of_an_http_1_0_client_is_ignored(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """An expectation in an HTTP/1.0 request is ignored (10.1.1): no 100 is sent."""
    answer = await proxy.ask(build("POST", "/", EXPECT, body=b"body", version="1.0"))
    assert (answer.status, answer.interim) == (200, [])


async def test_expectation_is_not_met_before_authorisation(upstream: ScriptedUpstream) -> None:
    """An unauthorised request is denied without a 100, and the upstream never sees it."""
    async with stack(upstream.url) as guarded, guarded.client() as client:
        await client.send(build("POST", "/", EXPECT, "Content-Length: 1000000"))
        answer = await client.response("POST")
        assert (answer.status, answer.interim) == (401, [])
    assert upstream.requests == []


async def test_refusal_in_place_of_100(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """A final answer instead of 100 reaches the client, which need not send its body."""
    upstream.scripts = [[EARLY, reply(b"no", "413 Content Too Large", "Connection: close")]]
    async with proxy.client() as client:
        await client.send(build("POST", "/", EXPECT, "Content-Length: 1000000"))
        answer = await client.response("POST")
        assert answer.status == 413
        # The body was never sent, so these octets are part of it or too late; they are no request.
        with contextlib.suppress(ConnectionError):
            await client.send(build("GET", "/poison"))
        await asyncio.sleep(0.01)
    assert len(upstream.requests) == 1
