"""One client address keeps only a part of the connections, and of what proxies pass on for it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.auth.route_rule import Access, RouteRule
from sidecar.proxy import admission
from sidecar.proxy.client_connection import ANSWERED_PER_ADDRESS
from sidecar.proxy.context import DataPlaneConfig, Limits
from tests.peers.patience import until
from tests.peers.raw_client import RawClient, build
from tests.peers.scripted_upstream import WATCH, reply
from tests.peers.stack import PUBLIC, stack
from tests.proxy.handshake import ASK, SWITCH
from tests.proxy.memory_plane import OK, Plane, rest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.peers.memory_transport import MemoryTransport
    from tests.peers.scripted_upstream import ScriptedUpstream

GET: Final = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
TRUSTED: Final = (ipaddress.ip_network("10.0.0.0/8"),)
PROXY: Final = "10.0.0.1"
RULES: Final = (
    RouteRule(path="/auth/verify/*", access=Access.PUBLIC, target="verify"),
    RouteRule(path="/*", access=Access.PUBLIC, upgrades=("websocket",)),
)


def proxied(client: str, *lines: str, target: str = "/") -> bytes:
    """A request that a proxy passes on for this client."""
    said = f"X-Forwarded-For: {client}"
    return build("GET", target, said, *lines)


def status(wire: MemoryTransport) -> int:
    """The status of the answer that a client has got; 0 without one."""
    answer = wire.take()
    return int(answer[9:12]) if answer else 0


# Connections


async def test_one_connection_too_many() -> None:
    """It gets 429 with Retry-After and is closed; others connect, and a place is reused."""
    plane = Plane(limits=Limits(per_address=2))
    first, second = plane.connect(), plane.connect()
    third = plane.connect()
    answer = third.take()
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert b"\r\nRetry-After: 1\r\n" in answer
    assert b"\r\nConnection: close\r\n" in answer
    assert await plane.ask(plane.connect(address="192.0.2.99"), GET)
    assert await plane.ask(first, GET)
    third.lose(None)
    second.lose(None)
    await rest()
    assert await plane.ask(plane.connect(), GET)
    assert plane.context.metrics.clients_refused["address"] == 1


async def test_a_flood_from_one_address() -> None:
    """Far over the limit connections are closed without an answer, which would feed the flood."""
    plane = Plane(limits=Limits(per_address=2))
    answered = ANSWERED_PER_ADDRESS
    wires = [plane.connect() for _ in range(2 + answered + 5)]
    assert [status(wire) for wire in wires] == [0] * 2 + [429] * answered + [0] * 5
    assert [wire.aborted for wire in wires] == [False] * (2 + answered) + [True] * 5


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param("2001:db8::1", "2001:db8::2", True, id="one-network"),
        pytest.param("2001:db8::1", "2001:db8:0:1::1", False, id="two-networks"),
        pytest.param("192.0.2.1", "::ffff:192.0.2.1", True, id="both-forms"),
        pytest.param("192.0.2.1", "192.0.2.2", False, id="two-addresses"),
    ],
)
async def test_what_one_address_is(one: str, other: str, same: bool) -> None:  # noqa: FBT001 (a table)
    """An IPv6 network of 64 bits is one address, and so are both forms of an IPv4 address."""
    plane = Plane(limits=Limits(per_address=1))
    plane.connect(address=one)
    assert status(plane.connect(address=other)) == (429 if same else 0)


@pytest.mark.parametrize(
    ("limits", "address"),
    [
        pytest.param(Limits(per_address=1), "", id="unix-socket"),
        pytest.param(Limits(per_address=1), PROXY, id="trusted-proxy"),
        pytest.param(Limits(per_address=0), "192.0.2.1", id="switched-off"),
    ],
)
async def test_without_a_limit(limits: Limits, address: str) -> None:
    """Unix sockets have no address, trusted proxies many clients; and the limit can be off."""
    plane = Plane(limits=limits, trusted=TRUSTED)
    wires = [plane.connect(address=address) for _ in range(5)]
    assert [status(wire) for wire in wires] == [0] * 5


async def test_a_proxy_that_is_trusted_no_more() -> None:
    """A reload applies to open connections: they count from then on, or no longer."""
    plane = Plane(limits=Limits(per_address=2), trusted=TRUSTED)
    wires = [plane.connect(address=PROXY) for _ in range(2)]
    config = DataPlaneConfig(routes=plane.context.routes, limits=plane.context.limits)
    plane.context.apply(config)
    plane.listener.identify()
    assert status(plane.connect(address=PROXY)) == 429
    plane.context.apply(replace(config, trusted_proxies=TRUSTED))
    plane.listener.identify()
    assert status(plane.connect(address=PROXY)) == 0
    for wire in wires:
        wire.lose(None)
    assert plane.context.admission.opened(PROXY) == 0


async def test_it_is_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood writes one line a minute, with the limit and a client; the metric counts them all."""
    now = 1000.0
    monkeypatch.setattr(admission, "monotonic", lambda: now)
    plane = Plane(limits=Limits(per_address=1))
    with caplog.at_level(logging.WARNING, logger="sidecar.proxy.admission"):
        for _ in range(4):
            plane.connect()
        assert [(vars(each)["limit"], vars(each)["client"]) for each in caplog.records] == [
            ("address", "192.0.2.1")
        ]
        now += 60.0
        plane.connect()
    assert len(caplog.records) == 2
    assert plane.context.metrics.clients_refused["address"] == 4


# Requests that trusted proxies pass on


async def test_one_request_too_many_of_a_named_client() -> None:
    """Only this client's request gets 429; the proxy's connection serves the others, then it."""
    plane = Plane(RULES, limits=Limits(per_address=2), trusted=TRUSTED)
    busy = [plane.connect(address=PROXY) for _ in range(2)]
    for wire in busy:
        wire.feed(proxied("192.0.2.7"))
    await rest()
    other = plane.connect(address=PROXY)
    other.feed(proxied("192.0.2.7"))
    answer = other.take()
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert b"\r\nRetry-After: 1\r\n" in answer
    assert b"Connection: close" not in answer
    assert len(plane.connector.wires) == 2  # nothing of it has reached the application
    for upstream in plane.connector.wires:
        upstream.take()
    assert await plane.ask(other, proxied("192.0.2.8"))
    assert status(other) == 200
    plane.connector.wires[0].feed(OK)
    await rest()
    assert status(busy[0]) == 200
    assert await plane.ask(other, proxied("192.0.2.7"))
    assert status(other) == 200
    assert plane.context.metrics.clients_refused["address"] == 1


async def test_addresses_that_a_client_makes_up() -> None:
    """A client does not get around its limit with an X-Forwarded-For of its own."""
    plane = Plane(RULES, limits=Limits(per_address=1), trusted=TRUSTED)
    plane.connect(address=PROXY).feed(proxied("198.51.100.1, 192.0.2.7"))
    wire = plane.connect(address=PROXY)
    wire.feed(proxied("198.51.100.2, 192.0.2.7"))
    assert status(wire) == 429


async def test_a_client_that_also_connects_directly() -> None:
    """Its connections and its proxied requests have one limit together."""
    plane = Plane(RULES, limits=Limits(per_address=1), trusted=TRUSTED)
    plane.connect(address="192.0.2.7")
    wire = plane.connect(address=PROXY)
    wire.feed(proxied("192.0.2.7"))
    assert status(wire) == 429


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(GET, id="names-no-client"),
        pytest.param(proxied("unknown"), id="hides-the-client"),
        pytest.param(build("GET", "/", "X-Forwarded-Proto: https"), id="names-only-a-scheme"),
        pytest.param(proxied("192.0.2.7", target="/auth/verify/nginx"), id="subrequest"),
    ],
)
async def test_requests_that_are_not_counted(request_: bytes) -> None:
    """Requests without a named client, and subrequests, are never refused for their client."""
    plane = Plane(RULES, limits=Limits(per_address=1), trusted=TRUSTED)
    plane.connect(address="192.0.2.7")
    wires = [plane.connect(address=PROXY) for _ in range(3)]
    for wire in wires:
        wire.feed(request_)
    await rest()
    assert 429 not in [status(wire) for wire in wires]


async def test_what_only_looks_like_a_subrequest() -> None:
    """A path beside those of subrequests is counted like any other."""
    plane = Plane(RULES, limits=Limits(per_address=1), trusted=TRUSTED)
    plane.connect(address="192.0.2.7")
    wire = plane.connect(address=PROXY)
    wire.feed(proxied("192.0.2.7", target="/auth/verify-not"))
    assert status(wire) == 429


@pytest.mark.parametrize("end", ["answered", "client gone", "refused by the gate", "bad body"])
async def test_every_end_of_a_request_is_counted(end: str) -> None:
    """However a request ends, its client has the place again."""
    rules = RULES if end != "refused by the gate" else (RouteRule(path="/*"),)
    plane = Plane(rules, limits=Limits(per_address=1), trusted=TRUSTED)
    wire = plane.connect(address=PROXY)
    if end == "bad body":
        said = ("X-Forwarded-For: 192.0.2.7", "Transfer-Encoding: chunked")
        wire.feed(build("POST", "/", *said))
        await rest()
        assert plane.context.admission.opened("192.0.2.7") == 1
        wire.feed(b"not a chunk\r\n")
    else:
        wire.feed(proxied("192.0.2.7"))
        await rest()
    if end == "answered":
        plane.connector.wires[0].feed(OK)
    elif end == "client gone":
        wire.lose(None)
    await rest()
    assert plane.context.admission.opened("192.0.2.7") == 0
    assert repr(plane.context.admission) == "<Admission 0 open by 0 clients>"


async def test_a_websocket_counts_until_it_closes() -> None:
    """A tunnel is no longer a request in flight, but still counts for the client that it serves."""
    plane = Plane(RULES, limits=Limits(per_address=1), trusted=TRUSTED)
    wire = plane.connect(address=PROXY)
    wire.feed(proxied("192.0.2.7", *ASK))
    await rest()
    plane.connector.wires[0].feed(SWITCH)
    assert status(wire) == 101
    plane.listener.identify()  # a reload does not make it the proxy's
    second = plane.connect(address=PROXY)
    second.feed(proxied("192.0.2.7"))
    assert status(second) == 429
    plane.connector.wires[0].lose(None)
    wire.lose(None)
    await rest()
    assert plane.context.admission.opened("192.0.2.7") == 0


# A whole sidecar, with real sockets


@contextlib.asynccontextmanager
async def connected(port: int, address: str = "127.0.0.1") -> AsyncIterator[RawClient]:
    """Open a connection from this address of the loopback network."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.bind((address, 0))
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock)
    client = RawClient(reader, writer)
    try:
        yield client
    finally:
        client.close()


async def test_one_address_leaves_room_for_others(upstream: ScriptedUpstream) -> None:
    """MAX_CONNECTIONS_PER_ADDRESS holds for one address, while another one is served."""
    settings: dict[str, Any] = {"max_connections_per_address": 3}
    async with stack(upstream.url, routes=PUBLIC, **settings) as proxy:
        async with contextlib.AsyncExitStack() as crowd:
            clients = [await crowd.enter_async_context(connected(proxy.port)) for _ in range(3)]
            for client in clients:
                assert (await client.ask(build("GET", "/"))).status == 200
            async with connected(proxy.port) as one_more:
                refused = await one_more.response()
            assert refused.status == 429
            assert refused.fields.one("retry-after") == b"1"
            async with connected(proxy.port, "127.0.0.2") as other:
                assert (await other.ask(build("GET", "/"))).status == 200
        name = 'sidecar_clients_refused_total{limit="address"}'
        assert await proxy.metric(name) == 1
        await until(lambda: proxy.sidecar.metrics.connections["downstream"] == 0)
        assert (await proxy.get("/")).status == 200


async def test_a_trusted_proxy_with_a_greedy_client(upstream: ScriptedUpstream) -> None:
    """A proxy may open any number of connections; a client that it names, so many requests."""
    upstream.scripts = [[WATCH], [WATCH], [reply(b"ok")]]
    limits: dict[str, Any] = {"max_connections_per_address": 2, "trusted_proxies": ["127.0.0.1"]}
    async with (
        stack(upstream.url, routes=PUBLIC, **limits) as proxy,
        contextlib.AsyncExitStack() as crowd,
    ):
        clients = [await crowd.enter_async_context(proxy.client()) for _ in range(6)]
        for number, client in enumerate(clients[:2], start=1):
            await client.send(proxied("192.0.2.7"))
            await until(lambda: len(upstream.requests) == number)  # noqa: B023 (at once)
        assert (await clients[2].ask(proxied("192.0.2.7"))).status == 429
        assert (await clients[3].ask(proxied("192.0.2.8"))).status == 200
