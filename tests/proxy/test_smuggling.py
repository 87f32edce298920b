"""No octet of a body becomes a request, and no header name reaches the upstream in an alias.

These are the attacks of RFC 9112 section 11.2, and spellings of header names that applications
treat as equal.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import pytest

from tests.peers.http_text import chunked
from tests.peers.raw_client import build
from tests.peers.scripted_upstream import EARLY, OK, READ_BODY, STALL, reply
from tests.peers.stack import PUBLIC, stack
from tests.proxy.handshake import ASK, SWITCH

if TYPE_CHECKING:
    from tests.peers.scripted_upstream import ScriptedUpstream
    from tests.peers.stack import Stack

INNER: Final = build("GET", "/admin/x", "X-Auth-User: root", "X-Auth-Roles: admin")
LENGTHS: Final = (
    *("content-length", "Content-Length", "content_length", "CONTENT_LENGTH", "content.length"),
    *(
        "Content~Length",
        "content|length",
        "keep-alive, content_length",
        "close, x,, content.length",
    ),
)
CODINGS: Final = (
    "transfer-encoding",
    "transfer_encoding",
    "Transfer.Encoding",
    "x, TRANSFER~ENCODING",
)
SEPARATORS: Final = "_.~!#$%&'*+^`|"  # every other octet allowed in a header name


def with_body(framing: str, method: str, target: str, *lines: str) -> tuple[bytes, bytes]:
    """Return the head and the framed body of a request whose body is itself a request."""
    if framing == "length":
        return build(method, target, *lines, f"Content-Length: {len(INNER)}"), INNER
    return build(method, target, *lines, "Transfer-Encoding: chunked"), chunked(INNER)


@pytest.mark.parametrize("named", LENGTHS)
async def test_connection_cannot_take_out_the_length(
    upstream: ScriptedUpstream, proxy: Stack, named: str
) -> None:
    """A request whose Connection names its Content-Length, in any spelling, gets a 400."""
    async with proxy.client() as client:
        head, body = with_body("length", "POST", "/x", f"Connection: {named}")
        await client.send(head + body + build("GET", "/after"))
        answer = await client.response("POST")
        assert answer.status == 400
        assert answer.closes
        assert await client.rest() == b""
    assert upstream.requests == []


@pytest.mark.parametrize("named", [*CODINGS, *LENGTHS])
async def test_connection_cannot_take_out_the_chunks(
    upstream: ScriptedUpstream, proxy: Stack, named: str
) -> None:
    """A chunked body stays one chunked body, whatever Connection names."""
    answer = await proxy.ask(b"".join(with_body("chunked", "POST", "/x", f"Connection: {named}")))
    assert answer.status == 200
    assert [(seen.target, seen.body) for seen in upstream.requests] == [(b"/x", INNER)]


@pytest.mark.parametrize("named", [*CODINGS, *LENGTHS])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_connection_cannot_unframe_an_answer(
    upstream: ScriptedUpstream, proxy: Stack, framing: str, named: str
) -> None:
    """An answer keeps its framing, whatever the upstream's Connection names."""
    inner = reply(b"poison")
    if framing == "length":
        answer = reply(inner, "200 OK", f"Connection: {named}")
    else:
        head = f"HTTP/1.1 200 OK\r\nConnection: {named}\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = head.encode() + chunked(inner)
    upstream.scripts = [[answer], [OK]]
    async with proxy.client() as client:
        first = await client.ask(build("GET", "/"))
        assert first.body == inner
        assert first.fields.all("content-length") == (
            [b"%d" % len(inner)] if framing == "length" else []
        )
        assert (await client.ask(build("GET", "/next"))).body == b"ok"


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_upgrade_with_a_body_is_a_plain_request(
    upstream: ScriptedUpstream, proxy: Stack, method: str, framing: str
) -> None:
    """An upgrade request with a body is forwarded without the upgrade, its body framed."""
    async with proxy.client() as client:
        head, body = with_body(framing, method, "/ws", *ASK)
        assert (await client.ask(head + body)).status == 200
        assert (await client.ask(build("GET", "/next"))).status == 200
    assert [seen.target for seen in upstream.requests] == [b"/ws", b"/next"]
    first = upstream.requests[0]
    assert first.body == INNER
    assert "upgrade" not in first.fields
    assert "connection" not in first.fields


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_upgrade_with_a_body_is_not_switched(
    upstream: ScriptedUpstream, proxy: Stack, framing: str
) -> None:
    """An upstream that switches although no upgrade was forwarded causes a 502 and no tunnel."""
    upstream.scripts = [[SWITCH], [OK]]
    async with proxy.client() as client:
        head, body = with_body(framing, "GET", "/ws", *ASK)
        assert (await client.ask(head + body)).status == 502
        assert (await client.ask(build("GET", "/next"))).body == b"ok"
    assert len(upstream.connections) == 2


IN_TWO: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345"


@pytest.mark.parametrize("sent", [0, 10], ids=["nothing-of-the-body", "some-of-the-body"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_rest_of_a_body_after_its_answer_is_no_request(
    upstream: ScriptedUpstream, streaming: Stack, framing: str, sent: int
) -> None:
    """An answer that ends before its request has ended is the last on both connections."""
    upstream.scripts = [[EARLY, IN_TWO, STALL, b"67890"], [OK]]
    head, body = with_body(framing, "POST", "/x")
    async with streaming.client() as client:
        await client.send(head)
        assert (await client.head()).status == 200
        await client.send(body[:sent])
        upstream.release.set()
        assert await client.exactly(10) == b"1234567890"
        with contextlib.suppress(ConnectionError):
            await client.send(body[sent:] + build("GET", "/after"))
        assert await client.rest() == b""
    assert (await streaming.get("/next")).body == b"ok"
    assert [seen.target for seen in upstream.requests] == [b"/x", b"/next"]
    assert [seen.connection for seen in upstream.requests] == [0, 1]


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_answer_that_outlasts_the_body_keeps_the_connection(
    upstream: ScriptedUpstream, streaming: Stack, framing: str
) -> None:
    """If the body ends before the answer does, both connections are reused."""
    upstream.scripts = [[EARLY, IN_TWO, READ_BODY, STALL, b"67890"], [OK]]
    head, body = with_body(framing, "POST", "/x")
    async with streaming.client() as client:
        await client.send(head)
        assert (await client.head()).status == 200
        await client.send(body)
        await upstream.wait(lambda: upstream.requests[0].body == INNER)
        upstream.release.set()
        assert await client.exactly(10) == b"1234567890"
        assert (await client.ask(build("GET", "/next"))).body == b"ok"
    assert [seen.connection for seen in upstream.requests] == [0, 0]


@pytest.mark.parametrize(
    "name",
    [
        *("X-Auth-User", "X-Auth-Roles", "X-Auth-Whatever", "Remote-User", "X-Forwarded-For"),
        *("X-Forwarded-User", "X-Real-IP", "X-Original-URL", "X-Original-URI", "X-Request-Id"),
        *("Content-Length", "Transfer-Encoding", "Proxy-Authorization", "Keep-Alive"),
    ],
)
async def test_no_folding_of_a_special_name_passes(upstream: ScriptedUpstream, name: str) -> None:
    """No alias of a special header name passes, whatever stands for its dashes."""
    spellings = {
        spelt
        for separator in SEPARATORS
        for spelt in (
            name.replace("-", separator),
            name.replace("-", separator).upper(),
            name.lower().replace("-", separator, 1),
        )
    }
    lines = [f"{spelt}: root" for spelt in sorted(spellings)]
    async with stack(upstream.url, routes=PUBLIC, identity={"Remote-User": "sub"}) as proxy:
        assert (await proxy.get("/", *lines)).status == 200
    assert b"root" not in (await upstream.arrived()).head


ORDINARY: Final = (
    *("Trace.Id: 1", "my_header: 2", "X_Y.Z~0: 3", "X.Authority: 4", "x_auth: 5", "a_b: 6"),
    *("X_Forward: 7", "Content_Kind: 8", "real_ip: 9"),
)


async def test_ordinary_names_with_dots_and_underscores_pass(
    upstream: ScriptedUpstream, proxy: Stack
) -> None:
    """A name that is no alias of a special header passes exactly as it was sent."""
    assert (await proxy.get("/", *ORDINARY)).status == 200
    head = (await upstream.arrived()).head
    assert "".join(f"{line}\r\n" for line in ORDINARY).encode() in head


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
async def test_methods_for_proxies_are_405(
    upstream: ScriptedUpstream, proxy: Stack, method: str
) -> None:
    """TRACE, which would reveal headers meant for the upstream, and CONNECT get a 405."""
    async with proxy.client() as client:
        answer = await client.ask(build(method, "/x", "Max-Forwards: 0"))
        assert answer.status == 405
        assert b"X-Auth-" not in answer.body
    assert upstream.requests == []


async def test_absolute_form_needs_a_host_too(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """HTTP/1.1 requires a Host with any target form (RFC 9112 section 3.2); HTTP/1.0 does not."""
    target = "http://shop.example/x"
    assert (await proxy.ask(build("GET", target, host=None))).status == 400
    assert upstream.requests == []
    assert (await proxy.ask(build("GET", target, host=None, version="1.0"))).status == 200
    assert (await upstream.arrived()).fields.one("host") == b"shop.example"
