"""Upgrades on the wire: which become tunnels, which do not, and how a tunnel ends (9110 7.8)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.peers.byte_stream import StreamEndedError
from tests.peers.raw_client import build
from tests.peers.scripted_upstream import (
    CLOSE,
    OK,
    RESET,
    WATCH,
    YIELD,
    Connection,
    Received,
    reply,
)
from tests.peers.stack import PUBLIC, Stack, stack
from tests.proxy.handshake import ACCEPT, ASK, KEY, SWITCH

if TYPE_CHECKING:
    from tests.peers.scripted_upstream import Action, ScriptedUpstream


async def mirror(connection: Connection, request: Received) -> None:
    """Echo everything until the other side ends, then close."""
    with contextlib.suppress(StreamEndedError, ConnectionError):
        while True:
            await connection.send(await connection.some())
    connection.ended_how = "eof"
    connection.close()


async def test_tunnel_carries_octets_both_ways(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """After the 101 all octets pass, including HTTP-like ones and those next to the heads."""
    upstream.scripts = [[SWITCH + b"\x81\x05first", mirror]]
    data = build("GET", "/inside") + bytes(range(256)) * 300
    async with proxy.client() as client:
        await client.send(build("GET", "/ws?x=1", *ASK))
        answer = await client.response()
        assert answer.status == 101
        assert answer.fields.members("connection") == [b"upgrade"]
        assert answer.fields.one("upgrade").lower() == b"websocket"
        assert answer.fields.one("sec-websocket-accept") == ACCEPT
        assert await client.exactly(7) == b"\x81\x05first"
        await client.send(data)
        assert await client.exactly(len(data)) == data
    seen = upstream.requests[0]
    assert seen.fields.members("connection") == [b"upgrade"]
    assert seen.fields.one("upgrade").lower() == b"websocket"
    assert seen.fields.one("sec-websocket-key") == KEY.encode()
    assert len(upstream.requests) == 1


async def test_octets_sent_before_the_switch_arrive_after_it(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """Octets sent before the 101 go into the tunnel and are not parsed as requests."""
    upstream.scripts = [[YIELD, SWITCH, mirror]]
    async with proxy.client() as client:
        await client.send(build("GET", "/ws", *ASK) + build("GET", "/early"))
        assert (await client.response()).status == 101
        assert await client.exactly(8) == b"GET /ear"
    assert len(upstream.requests) == 1


async def test_refused_upgrade_is_an_ordinary_answer(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """If the upstream does not switch, its answer passes and the connection stays usable."""
    upstream.scripts = [[reply(b"no", "403 Forbidden")], [OK]]
    async with proxy.client() as client:
        answer = await client.ask(build("GET", "/ws", *ASK))
        assert (answer.status, answer.body) == (403, b"no")
        assert (await client.ask(build("GET", "/next"))).body == b"ok"


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(
            ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
            id="h2c",
        ),
        pytest.param(("Connection: Upgrade", "Upgrade: H2C"), id="h2c-upper-case"),
        pytest.param(("Connection: Upgrade", "Upgrade: websocket, h2c"), id="two"),
        pytest.param(("Connection: Upgrade", "Upgrade: h2c", "Upgrade: websocket"), id="two-lines"),
        pytest.param(("Connection: Upgrade", "Upgrade: TLS/1.3"), id="tls"),
        pytest.param(("Connection: Upgrade", "Upgrade: irc"), id="other"),
        pytest.param(("Upgrade: websocket",), id="not-in-connection"),
        pytest.param(("Connection: Upgrade",), id="without-protocol"),
    ],
)
async def test_other_upgrades_are_not_passed_on(
    upstream: ScriptedUpstream, proxy: Stack, lines: tuple[str, ...]
) -> None:
    """Other upgrades, such as h2c, are served as plain requests or refused."""
    upstream.scripts = [[OK]]
    async with proxy.client() as client:
        answer = await client.ask(build("GET", "/x", *lines))
        assert answer.status in {200, 400}
        if answer.status == 200:
            assert (await client.ask(build("GET", "/next"))).status == 200
    for seen in upstream.requests:
        assert not {b"h2c", b"tls/1.3", b"irc"} & set(seen.fields.members("upgrade"))
        assert "http2-settings" not in seen.fields
        if "upgrade" not in seen.fields:
            assert b"upgrade" not in seen.fields.members("connection")


async def test_upstream_cannot_switch_to_something_else(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """A 101 to a protocol that was not requested becomes a 502."""
    upstream.scripts = [[SWITCH.replace(b"websocket", b"h2c")]]
    assert (await proxy.get("/ws", *ASK)).status == 502


async def test_http_1_0_cannot_upgrade(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """An Upgrade in an HTTP/1.0 request is ignored."""
    assert (await proxy.ask(build("GET", "/ws", *ASK, version="1.0"))).status == 200
    assert "upgrade" not in (await upstream.arrived()).fields


async def test_upgrade_needs_authorisation(upstream: ScriptedUpstream) -> None:
    """An upgrade needs the same authorisation as any other request."""
    async with stack(upstream.url) as guarded:
        assert (await guarded.get("/ws", *ASK)).status == 401
        assert upstream.requests == []
        upstream.scripts = [[SWITCH, mirror]]
        token = (await guarded.login()).access
        assert (await guarded.get("/ws", *ASK, token=token)).status == 101
        assert upstream.requests[0].fields.one("x-auth-user") == b"alice"


async def test_route_may_allow_another_protocol(upstream: ScriptedUpstream) -> None:
    """A route's `upgrades` list allows exactly these protocols, websocket only if listed."""
    upstream.scripts = lambda request: (
        [SWITCH.replace(b"websocket", b"irc"), mirror] if "upgrade" in request.fields else [OK]
    )
    routes = ({"path": "/*", "access": "public", "upgrades": ["irc"]},)
    async with stack(upstream.url, routes=routes) as proxy:
        assert (await proxy.get("/", "Connection: upgrade", "Upgrade: irc")).status == 101
        assert (await proxy.get("/", *ASK)).status == 200


@pytest.mark.parametrize("way", ["eof", "reset"])
async def test_client_end_ends_the_tunnel(
    upstream: ScriptedUpstream, proxy: Stack, way: str
) -> None:
    """The end of the client's connection ends the upstream's."""
    upstream.scripts = [[SWITCH, WATCH]]
    async with proxy.client() as client:
        await client.send(build("GET", "/ws", *ASK))
        await client.response()
        await client.send(b"bye")
        client.close() if way == "eof" else client.reset()
        await upstream.wait(lambda: upstream.connections[0].ended_how is not None, 3)
    if way == "eof":
        assert upstream.connections[0].received.endswith(b"bye")


@pytest.mark.parametrize("ending", [CLOSE, RESET], ids=["fin", "rst"])
async def test_upstream_end_ends_the_tunnel(
    upstream: ScriptedUpstream, proxy: Stack, ending: Action
) -> None:
    """The client gets everything that the upstream sent before its end."""
    data = b"x" * 500_000
    upstream.scripts = [[SWITCH, data, YIELD, ending]]
    async with proxy.client() as client:
        await client.send(build("GET", "/ws", *ASK))
        await client.response()
        received = await client.rest()
    assert received == data or ending is RESET


async def test_tunnel_outlives_the_idle_limits(upstream: ScriptedUpstream) -> None:
    """The limits for idle connections and slow answers do not apply to a quiet tunnel."""
    upstream.scripts = [[SWITCH, mirror]]
    names = ("idle_timeout", "header_timeout", "upstream_timeout", "upstream_idle_timeout")
    limits: dict[str, Any] = dict.fromkeys(names, "40ms")
    async with stack(upstream.url, routes=PUBLIC, **limits) as proxy, proxy.client() as client:
        await client.send(build("GET", "/ws", *ASK))
        assert (await client.response()).status == 101
        await client.silence(0.15)
        await client.send(b"still here")
        assert await client.exactly(10) == b"still here"


async def test_upgrade_with_a_body(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """The body of an upgrade request is never taken for the tunnel's first octets."""
    upstream.scripts = [[OK]]
    async with proxy.client() as client:
        answer = await client.ask(build("POST", "/ws", *ASK, body=b"body"))
        assert answer.status in {200, 400}
        if answer.status == 200:
            assert upstream.requests[0].body == b"body"
            assert (await client.ask(build("GET", "/next"))).status == 200
