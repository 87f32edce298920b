"""Slow or unfinished request bodies, and forms that are buffered for the control plane.

No test waits for a limit: the sidecar checks its deadlines as if the time had passed.
"""

from __future__ import annotations

import asyncio
import contextlib
from time import monotonic
from typing import TYPE_CHECKING, Final

import pytest

from sidecar.proxy.context import Limits
from tests.peers.http_text import chunked
from tests.peers.patience import PATIENCE, until
from tests.peers.raw_client import build
from tests.peers.scripted_upstream import EARLY, WATCH
from tests.proxy.stalling import SETTLE, all_gone, ended, strike, sweep

if TYPE_CHECKING:
    from tests.peers.raw_client import RawClient
    from tests.peers.scripted_upstream import ScriptedUpstream
    from tests.peers.stack import Stack

LIMITS: Final = Limits()  # a sidecar's limits with default settings; seconds
JSON: Final = "Content-Type: application/json"
CREDENTIALS: Final = b'{"username": "alice", "password": "pw-alice"}'


@pytest.mark.parametrize("framing", ["length", "chunked", "until-close"])
async def test_stalled_upload_under_an_early_answer(
    upstream: ScriptedUpstream, streaming: Stack, framing: str
) -> None:
    """A request whose body stalls is ended even though its answer has begun."""
    await _stall_upload(upstream, streaming, framing)


@pytest.mark.parametrize("framing", ["length", "chunked", "until-close"])
async def test_stalled_upload_cuts_its_early_answer(
    upstream: ScriptedUpstream, streaming: Stack, framing: str
) -> None:
    """An answer cut because its request stalled ends with a reset, and nothing follows it."""
    assert await _stall_upload(upstream, streaming, framing) == (b"", "reset")


EARLY_HEADS: Final = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\npart",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\npart",
    "until-close": b"HTTP/1.1 200 OK\r\n\r\npart",
}


async def _stall_upload(
    upstream: ScriptedUpstream, proxy: Stack, framing: str
) -> tuple[bytes, str]:
    """Return what follows the first part of an early answer, and how the connection ends."""
    upstream.scripts = [[EARLY, EARLY_HEADS[framing], WATCH]]
    before = monotonic()
    async with proxy.client() as client:
        await client.send(build("POST", "/", "Content-Length: 1000") + b"some")
        await client.until(b"part")
        sweep(proxy, before + LIMITS.body_grace - 0.1)
        await client.silence()
        strike(proxy, LIMITS.body_grace)
        await ended(upstream)
        rest = await client.rest()
        how = await client.ended()
    await all_gone(proxy)
    return rest, how


def login(*lines: str) -> bytes:
    """Build the head of a login request."""
    return build("POST", "/auth/login", JSON, *lines)


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_slow_logins_do_not_delay_another(proxy: Stack, framing: str) -> None:
    """Clients that have sent part of their credentials do not delay other logins."""
    line, first, last = {
        "length": (f"Content-Length: {len(CREDENTIALS)}", CREDENTIALS[:1], CREDENTIALS[1:]),
        "chunked": (
            "Transfer-Encoding: chunked",
            b"1\r\n{\r\n",
            chunked(CREDENTIALS[1:]),
        ),
    }[framing]
    count = 80  # more than the connection limit of the control plane
    async with contextlib.AsyncExitStack() as open_:
        slow: list[RawClient] = []
        for _ in range(count):
            client = await open_.enter_async_context(proxy.client())
            await client.send(login(line) + first)
            slow.append(client)
        await until(lambda: proxy.sidecar.metrics.in_flight == count)
        async with asyncio.timeout(PATIENCE):
            await proxy.login()
        await slow[-1].send(last)
        assert (await slow[-1].response("POST")).json()["token_type"] == "Bearer"
        slow[0].reset()
        await until(lambda: proxy.sidecar.metrics.in_flight == count - 2)


@pytest.mark.parametrize("octets", [0, 1], ids=["silent", "trickling"])
async def test_slow_login_is_cut_off(proxy: Stack, octets: int) -> None:
    """A body for the control plane must be complete in time, even if octets keep arriving."""
    async with proxy.client() as client:
        assert (await client.ask(build("GET", "/"))).status == 200  # past the limit for a head
        before = monotonic()
        await client.send(login("Content-Length: 1000") + b"{")
        await until(lambda: proxy.sidecar.metrics.in_flight == 1)
        late = monotonic() + LIMITS.form_timeout
        await client.silence(SETTLE)
        await client.send(b" " * octets)
        await client.silence(SETTLE)
        sweep(proxy, before + LIMITS.form_timeout - 0.1)
        await client.silence(SETTLE)
        sweep(proxy, late)
        answer = await client.response("POST")
        assert answer.status == 408
        assert answer.closes
        assert await client.rest() == b""
    assert proxy.sidecar.metrics.in_flight == 0


async def test_login_is_gathered_up_to_a_limit(proxy: Stack) -> None:
    """A login over the size limit gets 413 at once, before its body has ended."""
    body = b" " * LIMITS.form_size
    async with proxy.client() as client:
        await client.send(login("Transfer-Encoding: chunked"))
        await until(lambda: proxy.sidecar.metrics.in_flight == 1)
        await client.send(b"989680\r\n" + body[:-20])
        await client.silence()
        await client.send(body[:21])
        answer = await client.response("POST")
        assert answer.status == 413
        assert answer.closes
        assert await client.rest() == b""
    assert proxy.sidecar.metrics.in_flight == 0


@pytest.mark.parametrize(
    ("lines", "start"),
    [
        pytest.param(("Content-Length: 10000000",), b"", id="announced"),
        pytest.param(("Content-Length: 10000000", "Expect: 100-continue"), b"", id="expecting"),
        pytest.param(
            ("Transfer-Encoding: chunked",),
            b"989680\r\n" + b" " * (LIMITS.form_size + 1),
            id="with-the-head",
        ),
    ],
)
async def test_login_that_is_known_to_be_too_large(
    proxy: Stack, lines: tuple[str, ...], start: bytes
) -> None:
    """Nothing more of it is waited or asked for: 413 is the first answer."""
    async with proxy.client() as client:
        await client.send(login(*lines) + start)
        answer = await client.response("POST")
        assert answer.status == 413
        assert answer.closes
    assert proxy.sidecar.metrics.in_flight == 0


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_large_login_that_comes_at_once_is_refused(proxy: Stack, framing: str) -> None:
    """The size limit also applies to a body that was read together with its head."""
    body = b" " * LIMITS.form_size + CREDENTIALS
    line = f"Content-Length: {len(body)}" if framing == "length" else "Transfer-Encoding: chunked"
    answer = await proxy.ask(login(line) + (body if framing == "length" else chunked(body)))
    assert answer.status == 413
    assert answer.fields.one("content-type") == b"application/problem+json"


async def test_login_at_the_limit_passes(proxy: Stack) -> None:
    """A login body of exactly the size limit is accepted."""
    body = CREDENTIALS.rjust(LIMITS.form_size)
    async with proxy.client() as client:
        await client.send(login(f"Content-Length: {len(body)}"))
        await until(lambda: proxy.sidecar.metrics.in_flight == 1)
        await client.send(body)
        assert (await client.response("POST")).status == 200


EXPECTING: Final = ("Expect: 100-continue", f"Content-Length: {len(CREDENTIALS)}")


async def test_login_that_waits_to_be_asked(proxy: Stack) -> None:
    """A client that expects 100 Continue before its credentials gets it exactly once."""
    async with proxy.client() as client:
        await client.send(login(*EXPECTING))
        assert (await client.head()).status == 100
        await client.send(CREDENTIALS)
        answer = await client.response("POST")
        assert answer.status == 200
        assert answer.interim == []


async def test_login_over_http_1_0_is_not_asked_for(proxy: Stack) -> None:
    """An HTTP/1.0 login's expectation is ignored (RFC 9110 section 10.1.1)."""
    async with proxy.client() as client:
        await client.send(build("POST", "/auth/login", JSON, *EXPECTING, version="1.0"))
        await until(lambda: proxy.sidecar.metrics.in_flight == 1)
        await client.silence()
        await client.send(CREDENTIALS)
        answer = await client.response("POST")
        assert answer.status == 200
        assert answer.interim == []
