"""A remembered head serves many exchanges: no exchange changes it or sees data of another."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.auth.route_rule import Access, RouteRule
from tests.proxy.memory_plane import OK, Plane, rest
from tests.wire.readers import content, raw_head

if TYPE_CHECKING:
    from sidecar.wire.head import RequestHead
    from tests.peers.memory_transport import MemoryTransport

RULES: Final = (
    RouteRule(path="/auth/verify", target="verify", access=Access.PUBLIC, name="verify"),
    RouteRule(path="/private/*", name="private", preflight=True),
    RouteRule(path="/*", access=Access.PUBLIC, name="all"),
)
LINES: Final = (
    *(b"X-Forwarded-For: 192.0.2.9", b"Cookie: a=1", b"Accept: text/html", b"Expect: 100-continue"),
    *(b"Authorization: Bearer x.y.z", b"Connection: X-A", b"X-A: 1", b"Origin: https://h"),
    *(b"X-Original-URI: /private/x", b"X-Original-Method: POST", b"X-Request-Id: theirs"),
    *(b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 2"),
    *(b"Access-Control-Request-Method: PUT", b"Max-Forwards: 3"),
)
FIRST: Final = (
    *(b"GET / HTTP/1.1", b"POST /a?b HTTP/1.1", b"HEAD /c HTTP/1.1", b"GET /private/x HTTP/1.1"),
    *(b"GET /auth/verify HTTP/1.1", b"GET http://h/d HTTP/1.1", b"OPTIONS * HTTP/1.1"),
    b"OPTIONS /private/x HTTP/1.1",
)


def make_plane() -> Plane:
    """Create a plane that trusts its clients' network."""
    return Plane(RULES, trusted=[ip_network("10.0.0.0/8")])


def head_of(wire: MemoryTransport) -> RequestHead:
    """Return the head of this wire's current exchange."""
    protocol: Any = wire.get_protocol()
    head: RequestHead = protocol.exchange.head
    return head


@pytest.mark.parametrize(
    "first",
    [
        *(b"GET / HTTP/1.1", b"POST /a?b HTTP/1.1", b"HEAD /c HTTP/1.1"),
        *(b"GET http://h/d HTTP/1.1", b"OPTIONS /c HTTP/1.1"),
    ],
    ids=repr,
)
async def test_an_exchange_leaves_its_head_as_it_was(first: bytes) -> None:
    """A whole exchange with every kind of header line leaves its head unchanged."""
    plane = make_plane()
    wire = plane.connect(address="10.0.0.1")
    wire.feed(raw_head(first, b"Host: h", *(line for line in LINES if b"pgrade" not in line)))
    await rest()
    head = head_of(wire)
    head.remembered = None
    before = content(head)
    wire.feed(b"hi")
    plane.connector.wires[0].feed(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
    await rest()
    assert content(head) == before


requests = st.tuples(
    st.sampled_from(FIRST), st.lists(st.sampled_from(LINES), max_size=4, unique=True)
)


def whole(first: bytes, lines: list[bytes]) -> bytes:
    """Return a request with the body that its head announces."""
    body = b"hi" if b"Content-Length: 2" in lines else b""
    return raw_head(first, b"Host: h", *lines) + body


def lines_of(octets: bytes) -> list[bytes]:
    """Return the lines of a head, without a request id made by the sidecar."""
    lines = octets.partition(b"\r\n\r\n")[0].split(b"\r\n")
    return [line for line in lines if not line.startswith(b"X-Request-Id: id-")]


async def ask_all(raws: list[bytes], *, anew: bool) -> list[tuple[list[bytes], list[bytes]]]:
    """Return what each request looks like to the upstream, and the client's answer."""
    plane = make_plane()
    wire = plane.connect(address="10.0.0.1")
    results = []
    for raw in raws:
        if anew:
            plane = make_plane()
        if anew or wire.is_closing():
            wire = plane.connect(address="10.0.0.1")
        sent = await plane.ask(wire, raw)
        results.append((lines_of(sent), lines_of(wire.take())))
    return results


@given(
    st.lists(requests, min_size=1, max_size=2).flatmap(
        lambda some: st.lists(
            st.tuples(st.sampled_from(FIRST), st.sampled_from([lines for _, lines in some])),
            min_size=2,
            max_size=6,
        )
    )
)
@settings(max_examples=40, deadline=None)
def test_a_used_connection_serves_as_a_fresh_one(asked: list[tuple[bytes, list[bytes]]]) -> None:
    """Upstream and client receive the same bytes whatever the connection has served before."""
    raws = [whole(*each) for each in asked]
    used = asyncio.run(ask_all(raws, anew=False))
    assert used == asyncio.run(ask_all(raws, anew=True))
