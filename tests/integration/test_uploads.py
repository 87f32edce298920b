"""Uploads end with their session, and slow ones leave the application to others.

Whole sidecars; real Redis where a session ends at another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.integration.test_reload import changing, rule
from tests.peers.patience import until
from tests.peers.raw_client import RawClient, build
from tests.peers.redis_server import RedisServer
from tests.peers.scripted_upstream import EARLY, STALL, WATCH, ScriptedUpstream, reply
from tests.peers.stack import PUBLIC, Stack, stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.peers.raw_client import Response

SIZE: Final = 200_000  # octets of an upload
# Octets that have arrived of it: less than is buffered before it is forwarded, and more
PARTS: Final = {"buffered": 1000, "forwarded": 66_000}
SLOW: Final = 300  # uploads
PART = pytest.mark.parametrize("part", PARTS)


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """An application that answers once it has read the whole request."""
    async with ScriptedUpstream() as server:
        yield server


@pytest.fixture
def shared() -> Iterator[dict[str, Any]]:
    """The settings of sidecars on one Redis."""
    with RedisServer() as redis:
        yield {
            "session_store": "redis",
            "redis_host": "127.0.0.1",
            "redis_port": redis.port,
            "redis_timeout": 1.0,
        }


def watched(proxy: Stack) -> int:
    """Return the number of streams and uploads that end with their session."""
    context = proxy.sidecar.context
    assert context is not None
    assert context.session_watcher is not None
    return len(context.session_watcher)


async def begin(proxy: Stack, client: RawClient, token: str, part: str, size: int = SIZE) -> None:
    """Begin an upload, of which this part has arrived at the sidecar."""
    line = f"Content-Length: {size}"
    await client.send(build("POST", "/up", line, token=token) + b"x" * PARTS[part])
    metrics = proxy.sidecar.metrics
    await until(lambda: metrics.in_flight > 0 and metrics.allowed > 0)
    if part == "forwarded":
        await until(lambda: metrics.connections["upstream"] > 0)
    await until(lambda: watched(proxy) == 1)


async def refused(client: RawClient) -> Response:
    """Return the answer to an upload that was ended, behind which the connection closes."""
    answer = await client.response("POST")
    assert answer.closes
    assert await client.rest() == b""
    return answer


async def has_no_upload(upstream: ScriptedUpstream, part: str) -> None:
    """Check that the application has no whole request: none, or one that broke off."""
    if part == "forwarded":
        await upstream.wait(lambda: upstream.connections[0].ended_how is not None)
    assert [seen.raw_body for seen in upstream.requests] == [b""] * (part == "forwarded")


@PART
async def test_a_logout_elsewhere(
    upstream: ScriptedUpstream, shared: dict[str, Any], part: str, record_property: Any
) -> None:
    """A logout at another sidecar ends an upload with 401 within 100 ms."""
    took = []
    async with stack(upstream.url, **shared) as here, stack(upstream.url, **shared) as there:
        for _ in range(5):  # at least one should be undisturbed by other load on the machine
            upstream.requests.clear()
            upstream.connections.clear()
            tokens = await here.login()
            async with here.client() as client:
                await begin(here, client, tokens.access, part)
                await there.logout(tokens.access)
                began = time.monotonic()
                answer = await refused(client)
                took.append(time.monotonic() - began)
            assert answer.status == 401
            assert b'error="invalid_token"' in answer.fields.one("www-authenticate")
            await has_no_upload(upstream, part)
    record_property("seconds", took)
    assert min(took) < 0.1


@PART
async def test_an_expiry(upstream: ScriptedUpstream, part: str) -> None:
    """An upload ends with 401 when its session expires."""
    async with stack(upstream.url, access_token_expiry="1s") as proxy, proxy.client() as client:
        tokens = await proxy.login()
        await begin(proxy, client, tokens.access, part)
        assert (await refused(client)).status == 401
        await has_no_upload(upstream, part)


@PART
async def test_a_reload(tmp_path: Path, part: str) -> None:
    """An upload that the new rules forbid ends with 403."""
    async with changing(tmp_path, routes=[rule("/up")]) as one, one.proxy.client() as client:
        tokens = await one.proxy.login()
        await begin(one.proxy, client, tokens.access, part)
        await one.change(routes=[rule("/up", roles=["admin"])])
        assert (await refused(client)).status == 403
        await has_no_upload(one.upstream, part)


@PART
async def test_a_refresh_and_a_rest(upstream: ScriptedUpstream, part: str) -> None:
    """An upload whose session lasts is forwarded whole, and is then watched no longer."""
    async with stack(upstream.url) as proxy, proxy.client() as client:
        tokens, other = await proxy.login(), await proxy.login()
        await begin(proxy, client, tokens.access, part)
        await proxy.logout(other.access)
        await client.send(b"x" * (SIZE - PARTS[part]))
        assert (await client.response("POST")).status == 200
        assert watched(proxy) == 0
        assert len(upstream.requests[0].body) == SIZE


async def test_a_whole_upload_that_waits_for_a_connection(upstream: ScriptedUpstream) -> None:
    """An upload that is whole, but not forwarded yet, ends with its session as well."""
    upstream.scripts = [[STALL, reply(b"first")]]
    async with (
        stack(upstream.url, upstream_max_connections=1) as proxy,
        proxy.client() as first,
        proxy.client() as client,
    ):
        tokens, other = await proxy.login(), await proxy.login()
        await first.send(build("GET", "/", token=other.access))
        await upstream.arrived()
        await begin(proxy, client, tokens.access, "buffered", size=2000)
        await client.send(b"x" * 1000)
        assert proxy.sidecar.context is not None
        pool = proxy.sidecar.context.upstreams["upstream"]
        await until(lambda: len(pool.pool.waiting) == 1)
        await proxy.logout(tokens.access)
        assert (await client.response("POST")).status == 401
        upstream.release.set()
        assert (await first.response()).body == b"first"
        assert len(pool.pool.waiting) == 0
        assert len(upstream.requests) == 1


@PART
async def test_a_route_that_keeps(upstream: ScriptedUpstream, part: str) -> None:
    """On a route with `session_end = "keep"`, an upload outlives its session."""
    routes = ({"path": "/up", "session_end": "keep"},)
    async with stack(upstream.url, routes=routes) as proxy, proxy.client() as client:
        tokens = await proxy.login()
        head = build("POST", "/up", f"Content-Length: {SIZE}", token=tokens.access)
        await client.send(head + b"x" * PARTS[part])
        await until(lambda: proxy.sidecar.metrics.in_flight > 0)
        await proxy.logout(tokens.access)
        await client.send(b"x" * (SIZE - PARTS[part]))
        assert (await client.response("POST")).status == 200


async def test_an_answer_that_has_begun(upstream: ScriptedUpstream) -> None:
    """An upload whose answer has begun ends with a reset, on both sides."""
    begun = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart"
    upstream.scripts = [[EARLY, begun, WATCH]]
    async with stack(upstream.url) as proxy, proxy.client() as client:
        tokens = await proxy.login()
        await begin(proxy, client, tokens.access, "forwarded")
        await client.until(b"part")
        await proxy.logout(tokens.access)
        assert await client.ended() == "reset"
        await upstream.wait(lambda: upstream.connections[0].ended_how is not None)


@contextlib.asynccontextmanager
async def client_at(address: str, port: int) -> AsyncIterator[RawClient]:
    """Connect from this address of the loopback interface."""
    streams = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    client = RawClient(*streams)
    try:
        yield client
    finally:
        client.close()


@pytest.mark.parametrize("expecting", [False, True], ids=["plain", "expecting"])
@PART
async def test_slow_uploads_leave_the_application_to_others(
    upstream: ScriptedUpstream, part: str, *, expecting: bool
) -> None:
    """300 slow uploads from one address: every request of others is answered 200, uploads too.

    Those that have sent little, or nothing, hold no connection, or no more than a quarter.
    """
    upstream.scripts = lambda _: [reply(b"alive")]
    lines = ("Expect: 100-continue",) * expecting
    slow = build("POST", "/public", f"Content-Length: {SIZE}", *lines)
    sent = b"" if expecting else b"x" * PARTS[part]
    most = 64 if part == "forwarded" or expecting else 0
    async with (
        stack(upstream.url, routes=PUBLIC, upstream_queue_timeout="1m") as proxy,
        contextlib.AsyncExitStack() as clients,
    ):
        for _ in range(SLOW):
            client = await clients.enter_async_context(client_at("127.0.0.2", proxy.port))
            await client.send(slow + sent)
        await until(lambda: proxy.sidecar.metrics.in_flight == SLOW)
        assert proxy.sidecar.context is not None
        pool = proxy.sidecar.context.upstreams["upstream"]
        await until(lambda: len(pool.pool.leased) == most)
        for _ in range(5):
            for body in (None, b"x" * 10, b"x" * 1_000_000):
                async with client_at("127.0.0.3", proxy.port) as other:
                    answer = await other.ask(build("POST" if body else "GET", "/probe", body=body))
                    assert (answer.status, answer.body) == (200, b"alive")
        assert len(pool.pool.leased) == most
