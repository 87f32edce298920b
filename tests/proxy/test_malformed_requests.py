"""Ambiguous requests: refused without being forwarded, and the connection is closed.

RFC 9112 sections 2.2, 3, 5 and 6. Each case is followed by a request that must never be found.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.peers.http_text import chunked
from tests.peers.raw_client import RawClient, TruncatedError, build

if TYPE_CHECKING:
    from _pytest.mark.structures import ParameterSet

    from tests.peers.scripted_upstream import Connection, ScriptedUpstream
    from tests.peers.stack import Stack

AFTER: Final = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
FOUR = frozenset({400})
CODINGS = frozenset({400, 501})
TOO_BIG = frozenset({400, 414, 431, 501})


def head(*lines: bytes, line: bytes = b"POST / HTTP/1.1", host: bytes = b"Host: x") -> bytes:
    """Build a request head from these exact lines."""
    return b"\r\n".join([line, *([host] if host else []), *lines, b"", b""])


def case(name: str, raw: bytes, statuses: frozenset[int] = FOUR) -> ParameterSet:
    """One row of the tables below."""
    return pytest.param(raw, statuses, id=name)


TE = b"Transfer-Encoding: "
ZERO = b"0\r\n\r\n"
FRAMING = [
    case("cl-and-te", head(b"Content-Length: 5", TE + b"chunked") + ZERO),
    case("te-and-cl", head(TE + b"chunked", b"Content-Length: 5") + ZERO),
    case("cl-twice-differing", head(b"Content-Length: 5", b"Content-Length: 6") + b"12345"),
    case("cl-list-differing", head(b"Content-Length: 5, 6") + b"12345"),
    case("cl-plus", head(b"Content-Length: +5") + b"12345"),
    case("cl-minus", head(b"Content-Length: -5") + b"12345"),
    case("cl-hex", head(b"Content-Length: 0x5") + b"12345"),
    case("cl-empty", head(b"Content-Length: ") + b"12345"),
    case("cl-word", head(b"Content-Length: five") + b"12345"),
    case("cl-inner-space", head(b"Content-Length: 1 0") + b"1234567890"),
    case("cl-decimal", head(b"Content-Length: 5.0") + b"12345"),
    case("cl-underscore", head(b"Content-Length: 1_0") + b"1234567890"),
    case("cl-unicode-digit", head(b"Content-Length: \xd9\xa5") + b"12345"),
    case("cl-overflow-64-bit", head(b"Content-Length: 18446744073709551621") + b"12345"),
    case("cl-400-digits", head(b"Content-Length: " + b"9" * 400) + b"12345"),
    case("cl-nul", head(b"Content-Length: 5\0") + b"12345"),
    case("cl-vt", head(b"Content-Length: \x0b5") + b"12345"),
    case("te-gzip", head(TE + b"gzip") + ZERO, CODINGS),
    case("te-gzip-chunked", head(TE + b"gzip, chunked") + ZERO, CODINGS),
    case("te-chunked-gzip", head(TE + b"chunked, gzip") + ZERO, CODINGS),
    case("te-chunked-twice", head(TE + b"chunked, chunked") + ZERO, CODINGS),
    case("te-two-lines", head(TE + b"chunked", TE + b"chunked") + ZERO, CODINGS),
    case("te-two-lines-identity", head(TE + b"identity", TE + b"chunked") + ZERO, CODINGS),
    case("te-identity", head(TE + b"identity") + ZERO, CODINGS),
    case("te-empty", head(TE) + ZERO, CODINGS),
    case("te-prefixed", head(TE + b"xchunked") + ZERO, CODINGS),
    case("te-suffixed", head(TE + b"chunkedx") + ZERO, CODINGS),
    case("te-parameter", head(TE + b"chunked;q=1") + ZERO, CODINGS),
    case("te-quoted", head(TE + b'"chunked"') + ZERO, CODINGS),
    case("te-vt", head(TE + b"\x0bchunked") + ZERO, CODINGS),
    case("te-nul", head(TE + b"\0chunked") + ZERO, CODINGS),
    case("te-in-http-1.0", head(TE + b"chunked", line=b"POST / HTTP/1.0") + ZERO, CODINGS),
    case("te-space-before-colon", head(b"Transfer-Encoding : chunked") + ZERO),
    case("te-folded", head(b"Transfer-Encoding:\r\n chunked") + ZERO),
    case("te-underscore-and-cl", head(b"Content_Length: 6", b"Content-Length : 5") + b"12345"),
]
LINES = [
    case("bare-lf-everywhere", b"GET / HTTP/1.1\nHost: x\n\n"),
    case("bare-lf-after-request-line", b"GET / HTTP/1.1\nHost: x\r\n\r\n"),
    case("bare-lf-after-header", head(b"A: b\nC: d")),
    case("bare-lf-at-the-end", b"GET / HTTP/1.1\r\nHost: x\r\n\n"),
    case("bare-cr-in-value", head(b"A: b\rC: d")),
    case("bare-cr-before-crlf", head(b"A: b\r")),
    case("bare-cr-in-request-line", b"GET /\rx HTTP/1.1\r\nHost: x\r\n\r\n"),
    case("nul-in-value", head(b"A: b\0c")),
    case("nul-in-name", head(b"A\0: b")),
    case("control-in-value", head(b"A: b\x01c")),
    case("del-in-value", head(b"A: b\x7fc")),
    case("space-before-colon", head(b"A : b")),
    case("tab-before-colon", head(b"A\t: b")),
    case("space-before-name", b"GET / HTTP/1.1\r\n A: b\r\nHost: x\r\n\r\n"),
    case("obs-fold-space", head(b"A: b\r\n c")),
    case("obs-fold-tab", head(b"A: b\r\n\tc")),
    case("no-colon", head(b"Nonsense")),
    case("empty-name", head(b": b")),
    case("name-with-space", head(b"A B: c")),
    case("name-with-paren", head(b"A(b): c")),
    case("name-not-ascii", head(b"\xe9: c")),
    case("name-with-slash", head(b"A/b: c")),
    case("host-missing", head(b"A: b", host=b"")),
    case("host-twice", head(b"Host: x")),
    case("host-twice-differing", head(b"Host: y")),
    case("host-list", head(host=b"Host: a, b")),
    case("host-space", head(host=b"Host: a b")),
    case("host-slash", head(host=b"Host: a/b")),
    case("host-userinfo", head(host=b"Host: user@a")),
    case("host-bad-port", head(host=b"Host: a:b")),
    case("host-not-ascii", head(host=b"Host: \xe9")),
    case("host-bad-bracket", head(host=b"Host: [::1")),
    case("host-control", head(host=b"Host: a\x01")),
]
START = [
    case("http-0.9", b"GET /\r\n"),
    case("http-0.9-lf", b"GET /\n"),
    case("http-2.0", head(line=b"GET / HTTP/2.0"), frozenset({400, 505})),
    case("http-2-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", frozenset({400, 405, 505})),
    case("http-3.7", head(line=b"GET / HTTP/3.7"), frozenset({400, 505})),
    case("http-1.12", head(line=b"GET / HTTP/1.12"), frozenset({400, 505})),
    case("http-01.1", head(line=b"GET / HTTP/01.1"), frozenset({400, 505})),
    case("http-lower-case", head(line=b"GET / http/1.1")),
    case("http-dotless", head(line=b"GET / HTTP/11")),
    case("version-missing", head(line=b"GET / ")),
    case("other-protocol", head(line=b"GET / ICE/1.0")),
    case("method-lower-case-odd", head(line=b"G@T / HTTP/1.1"), frozenset({400, 405, 501})),
    case("method-empty", head(line=b" / HTTP/1.1")),
    case("two-spaces", head(line=b"GET  / HTTP/1.1")),
    case("tab-for-space", head(line=b"GET\t/ HTTP/1.1")),
    case("trailing-space", head(line=b"GET / HTTP/1.1 ")),
    case("space-in-target", head(line=b"GET /a b HTTP/1.1")),
    case("target-missing", head(line=b"GET HTTP/1.1")),
    case("target-relative", head(line=b"GET admin HTTP/1.1")),
    case("target-query-only", head(line=b"GET ?x HTTP/1.1")),
    case("asterisk-of-get", head(line=b"GET * HTTP/1.1")),
    case("connect", head(line=b"CONNECT x:443 HTTP/1.1"), frozenset({400, 405, 501})),
    case("connect-path", head(line=b"CONNECT / HTTP/1.1"), frozenset({400, 405, 501})),
    case("absolute-no-host", head(line=b"GET http:///x HTTP/1.1")),
    case("absolute-userinfo", head(line=b"GET http://u:p@x/ HTTP/1.1")),
    case("absolute-bad-port", head(line=b"GET http://x:y/ HTTP/1.1")),
    case("absolute-other-scheme", head(line=b"GET ftp://x/ HTTP/1.1")),
    case("absolute-no-slashes", head(line=b"GET http:x/y HTTP/1.1")),
    case("fragment", head(line=b"GET /x#y HTTP/1.1")),
    case("fragment-after-query", head(line=b"GET /x?a=b#/open HTTP/1.1")),
    case("target-not-ascii", head(line=b"GET /\xc3\xa9 HTTP/1.1")),
    case("query-not-ascii", head(line=b"GET /?\xc3\xa9 HTTP/1.1")),
    case("target-nul", head(line=b"GET /\0 HTTP/1.1")),
    case("target-del", head(line=b"GET /\x7f HTTP/1.1")),
    case("tls-hello", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"\x00" * 60),
    case("proxy-protocol", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + AFTER),
    case("head-too-long", head(b"A: " + b"b" * 40_000), TOO_BIG),
    case("target-too-long", head(line=b"GET /" + b"a" * 40_000 + b" HTTP/1.1"), TOO_BIG),
    case("name-too-long", head(b"A" * 40_000 + b": b"), TOO_BIG),
    case("endless-line", b"A" * 70_000, TOO_BIG),
    case("headers-too-many", head(*[b"A%d: b" % n for n in range(101)]), TOO_BIG),
    case("headers-tiny", head(*[b"a:"] * 8000), TOO_BIG),
]
PATHS = [
    case(f"path {path}", head(line=f"GET {path} HTTP/1.1".encode()))
    for path in (
        "/public/../admin",
        "/public/./admin",
        "/..",
        "/public/..",
        "/%2e%2e/admin",
        "/public/%2E%2e/admin",
        "/public/.%2e/admin",
        "/public/..;/admin",
        "/public/..;x=1/admin",
        "/public/%2e%2e;/admin",
        "/public/..%2fadmin",
        "/public/..%5cadmin",
        "/public\\..\\admin",
        "//admin",
        "//evil.example/x",
        "/public//x",
        "/public/%2f",
        "/a%00b",
        "/a%0d%0ab",
        "/%",
        "/%zz",
        "/%2",
    )
]


@pytest.mark.parametrize("way", ["whole", "bytewise"])
@pytest.mark.parametrize(("raw", "statuses"), [*FRAMING, *LINES, *START, *PATHS])
async def test_malformed_request_is_refused(
    upstream: ScriptedUpstream, proxy: Stack, raw: bytes, statuses: frozenset[int], way: str
) -> None:
    """A malformed request is refused, its connection closes, and nothing is forwarded."""
    async with proxy.client() as client:
        if way == "whole":
            await client.send(raw + AFTER)
        else:
            await client.trickle(raw[:2000])  # what is too long is so by now, or never sent
            await client.send(raw[2000:] + AFTER)
        answer = await client.response()
        assert answer.status in statuses
        assert answer.closes
        assert await client.rest() == b""
        assert b"smuggled" not in answer.body
    assert upstream.requests == []
    assert b"".join(bytes(connection.received) for connection in upstream.connections) == b""


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"g\r\nx\r\n0\r\n\r\n", id="size-not-hex"),
        pytest.param(b"-1\r\nx\r\n0\r\n\r\n", id="size-negative"),
        pytest.param(b"+1\r\nx\r\n0\r\n\r\n", id="size-plus"),
        pytest.param(b"0x1\r\nx\r\n0\r\n\r\n", id="size-0x"),
        pytest.param(b"\r\nx\r\n0\r\n\r\n", id="size-empty"),
        pytest.param(b" 1\r\nx\r\n0\r\n\r\n", id="size-leading-space"),
        pytest.param(b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n", id="size-underscore"),
        pytest.param(b"10000000000000001\r\nx\r\n0\r\n\r\n", id="size-over-64-bit"),
        pytest.param(b"f" * 40 + b"\r\nx\r\n0\r\n\r\n", id="size-40-digits"),
        pytest.param(b"1\nx\r\n0\r\n\r\n", id="lf-after-size"),
        pytest.param(b"1\rx\r\n0\r\n\r\n", id="cr-after-size"),
        pytest.param(b"1\r\nx\n0\r\n\r\n", id="lf-after-data"),
        pytest.param(b"1\r\nxy\r\n0\r\n\r\n", id="data-too-long"),
        pytest.param(b"1;a=b\nGET /smuggled HTTP/1.1\r\nx\r\n0\r\n\r\n", id="lf-in-extension"),
        pytest.param(b"1;a=\rb\r\nx\r\n0\r\n\r\n", id="cr-in-extension"),
        pytest.param(b"1;a=\0\r\nx\r\n0\r\n\r\n", id="nul-in-extension"),
        pytest.param(b"1;" + b"a" * 70_000 + b"\r\nx\r\n0\r\n\r\n", id="extension-too-long"),
        pytest.param(b"1\r\nx\r\n0\r\nA : b\r\n\r\n", id="trailer-space-before-colon"),
        pytest.param(b"1\r\nx\r\n0\r\nA: b\nC: d\r\n\r\n", id="trailer-bare-lf"),
        pytest.param(b"1\r\nx\r\n0\r\nA: b\r\n c\r\n\r\n", id="trailer-fold"),
        pytest.param(b"1\r\nx\r\n0\r\nA: b\0\r\n\r\n", id="trailer-nul"),
        pytest.param(b"1\r\nx\r\n0\r\nA: " + b"b" * 70_000 + b"\r\n\r\n", id="trailer-too-long"),
        pytest.param(b"1\r\nx\r\n0\r\n" + b"A: b\r\n" * 5000 + b"\r\n", id="trailers-too-many"),
        pytest.param(b"1\r\nx\r\n0\r\n\n", id="lf-at-the-end"),
    ],
)
@pytest.mark.parametrize("way", ["whole", "body-apart"])
async def test_malformed_chunked_body_is_refused(
    upstream: ScriptedUpstream, streaming: Stack, body: bytes, way: str
) -> None:
    """A malformed body never becomes a complete request, and nothing after it is forwarded."""
    async with streaming.client() as client:
        await client.send(head(TE + b"chunked") + (body + AFTER if way == "whole" else b""))
        if way == "body-apart":
            await upstream.arrived()
            await client.send(body + AFTER)
        try:
            answer = await client.response("POST")
            assert answer.status in {400, 413, 431}
            await client.ended()
        except (TruncatedError, ConnectionError):
            pass  # closed without an answer, as it may be once the upstream's answer has begun
    for connection in upstream.connections:
        await upstream.wait(partial(_has_ended, connection))
    assert [seen.raw_body for seen in upstream.requests] in ([], [b""])


def _has_ended(connection: Connection) -> bool:
    return connection.ended_how is not None


async def test_tiny_chunks_stay_cheap(upstream: ScriptedUpstream, proxy: Stack) -> None:
    """The cost of a body in one-octet chunks grows linearly (CVE-2025-69229)."""
    body = b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n"
    async with proxy.client() as client:
        await client.send(head(TE + b"chunked") + body)
        assert (await client.response("POST")).status == 200
    assert len(upstream.requests[0].body) == 100_000


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(head(*[b"A%d: b" % n for n in range(90)]), id="90-headers"),
        pytest.param(head(b"A: " + b"b" * 30_000), id="30000-octets"),
        pytest.param(head(b"A:b", b"B:\tc\t", b"C:"), id="odd-white-space"),
        pytest.param(head(host=b"Host: [::1]:8080"), id="host-ipv6"),
        pytest.param(head(host=b"Host: x-1.example.:80"), id="host-trailing-dot"),
        pytest.param(head(host=b"hOsT:x"), id="host-odd-case"),
        pytest.param(head(b"Content-Length: 000"), id="cl-zeros"),
        pytest.param(head(b"A: \xff\xfe", b"B: \t x"), id="obs-text"),
        pytest.param(head(TE + b"Chunked") + chunked(b"x"), id="chunked-odd-case"),
        pytest.param(head(TE + b"chunked") + b'0;a=b;c="d"\r\n\r\n', id="chunk-extension"),
    ],
)
async def test_odd_but_valid_request_passes(
    upstream: ScriptedUpstream, proxy: Stack, raw: bytes
) -> None:
    """Unusual requests that the RFCs allow pass."""
    async with proxy.client() as client:
        assert (await client.ask(raw)).status == 200
        assert (await client.ask(build("GET", "/next"))).status == 200


OCTETS = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            *(b"\r\n", b"\r\n\r\n", b"\n", b"\r", b" ", b":", b"abc", b"\0", b"0\r\n\r\n"),
            *(b"GET / HTTP/1.1\r\n", b"Host: x\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
            *(b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n"),
        ]
    ),
)
ANY = frozenset({200, 400, 405, 408, 413, 414, 431, 501, 505})


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(pieces=st.lists(OCTETS, max_size=14))
async def test_any_octets_get_well_formed_answers(
    upstream: ScriptedUpstream, proxy: Stack, pieces: list[bytes]
) -> None:
    """Whatever a client sends, it gets well-formed HTTP, and the connection ends."""
    async with proxy.client() as client:
        await client.send(b"".join(pieces))
        client.end()
        with pytest.raises(TruncatedError) as end:
            await _answers(client)
        assert end.value.body == b""  # no half-written answer


async def _answers(client: RawClient) -> None:
    """Read well-formed answers until the connection ends."""
    while True:
        assert (await client.response()).status in ANY
