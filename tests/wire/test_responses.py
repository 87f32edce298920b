"""Response heads: the upstream is read as strictly as the client (RFC 9110, RFC 9112)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.errors import UpstreamBroken
from sidecar.wire.head import Framing
from tests.wire.readers import (
    passed_on,
    raw_head,
    read_response,
    response_heads,
    response_parser,
)

NONE, LENGTH = Framing.NONE, Framing.LENGTH
CHUNKED, UNTIL_CLOSE = Framing.CHUNKED, Framing.UNTIL_CLOSE


@pytest.mark.parametrize(
    ("line", "status", "passed"),
    [
        pytest.param(b"HTTP/1.1 200 OK", 200, b"HTTP/1.1 200 OK", id="plain"),
        pytest.param(b"HTTP/1.0 200 OK", 200, b"HTTP/1.1 200 OK", id="1.0"),
        pytest.param(b"HTTP/1.1 404 ", 404, b"HTTP/1.1 404 ", id="empty-phrase"),  # 9112 section 4
        pytest.param(b"HTTP/1.1 404", 404, b"HTTP/1.1 404 ", id="no-phrase"),
        pytest.param(b"HTTP/1.1 200 a\tb  \xe9", 200, b"HTTP/1.1 200 a\tb  \xe9", id="any-text"),
        pytest.param(b"HTTP/1.1 299 x", 299, b"HTTP/1.1 299 x", id="unknown-status"),
        pytest.param(b"HTTP/1.1 999 x", 999, b"HTTP/1.1 999 x", id="status-beyond"),
    ],
)
def test_status_line(line: bytes, status: int, passed: bytes) -> None:
    """A status line is passed on in HTTP/1.1 with the upstream's reason phrase."""
    head = read_response(b"A: 1", first=line)
    assert head.status == status
    assert passed_on(head) == [passed, b"A: 1"]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"HTTP/1.1", id="no-status"),
        pytest.param(b"HTTP/1.1  200 OK", id="two-spaces"),
        pytest.param(b" HTTP/1.1 200 OK", id="space-at-start"),
        pytest.param(b"HTTP/1.1 20 OK", id="two-digits"),
        pytest.param(b"HTTP/1.1 2000 OK", id="four-digits"),
        pytest.param(b"HTTP/1.1 099 OK", id="below-100"),
        pytest.param(b"HTTP/1.1 +20 OK", id="sign"),
        pytest.param(b"HTTP/1.1 \xb2\xb2\xb2 OK", id="superscripts"),
        pytest.param(b"HTTP/1.1 200OK", id="no-space"),
        pytest.param(b"HTTP/1.1 200\tOK", id="tab"),
        pytest.param(b"HTTP/1.1 200 a\rSet-Cookie: b", id="cr-in-phrase"),  # aiohttp CVE-2026-34519
        pytest.param(b"HTTP/1.1 200 a\nSet-Cookie: b", id="lf-in-phrase"),
        pytest.param(b"HTTP/1.1 200 a\0", id="nul-in-phrase"),
        pytest.param(b"HTTP/1.1 200 OK\r", id="cr-at-end"),
        pytest.param(b"HTTP/2.0 200 OK", id="http-2"),
        pytest.param(b"HTTP/1.2 200 OK", id="higher-minor"),
        pytest.param(b"http/1.1 200 OK", id="small"),
        pytest.param(b"ICY 200 OK", id="other-protocol"),
        pytest.param(b"GET / HTTP/1.1", id="request"),
    ],
)
def test_malformed_status_line(line: bytes) -> None:
    """A malformed status line is refused (RFC 9112 section 4)."""
    with pytest.raises(UpstreamBroken, match="status line"):
        read_response(first=line)


@pytest.mark.parametrize(
    ("lines", "framing", "length", "passed"),
    [
        pytest.param([b"Content-Length: 5"], LENGTH, 5, [b"Content-Length: 5"], id="length"),
        pytest.param([b"content-length:\t0 "], LENGTH, 0, [b"content-length:\t0 "], id="zero"),
        pytest.param([b"Transfer-Encoding: chunked"], CHUNKED, 0, [], id="chunked"),
        pytest.param([b"transfer-encoding: CHUNKED"], CHUNKED, 0, [], id="chunked-in-capitals"),
        pytest.param([], UNTIL_CLOSE, 0, [], id="neither"),  # 9112 section 6.3, rule 8
        pytest.param([b"Content_Length: 5"], UNTIL_CLOSE, 0, [], id="length-misspelt"),
    ],
)
def test_framing(lines: list[bytes], framing: Framing, length: int, passed: list[bytes]) -> None:
    """The headers determine the end of the body (RFC 9112 section 6.3)."""
    head = read_response(*lines)
    assert (head.framing, head.length, head.keep_alive) == (framing, length, True)
    assert passed_on(head)[1:] == passed


@pytest.mark.parametrize(
    ("first", "to_head", "lines", "passed"),
    [
        pytest.param(b"HTTP/1.1 200 OK", True, [b"Content-Length: 5"], [True], id="head"),
        pytest.param(b"HTTP/1.1 200 OK", True, [b"Transfer-Encoding: chunked"], [], id="head-te"),
        pytest.param(b"HTTP/1.1 200 OK", True, [], [], id="head-neither"),
        pytest.param(b"HTTP/1.1 304 x", False, [b"Content-Length: 5"], [True], id="304"),
        pytest.param(b"HTTP/1.1 204 x", False, [], [], id="204"),
        pytest.param(b"HTTP/1.1 204 x", False, [b"Content-Length: 0"], [], id="204-length"),
        pytest.param(b"HTTP/1.1 204 x", False, [b"Transfer-Encoding: chunked"], [], id="204-te"),
        pytest.param(b"HTTP/1.1 100 x", False, [b"Content-Length: 5"], [], id="100-length"),
        pytest.param(b"HTTP/1.1 103 x", False, [], [], id="103"),
        pytest.param(b"HTTP/1.1 101 x", False, [b"Content-Length: 5"], [], id="101-length"),
    ],
)
def test_answers_without_a_body(
    first: bytes,
    to_head: bool,  # noqa: FBT001 (a table)
    lines: list[bytes],
    passed: list[bool],
) -> None:
    """Responses to HEAD, 1xx, 204 and 304 have no body (RFC 9112 section 6.3, rule 1).

    A 1xx or 204 is not passed on with a length (RFC 9110 section 8.6).
    """
    head = read_response(*lines, first=first, to_head=to_head)
    assert head.framing is NONE
    assert passed_on(head)[1:] == (lines if passed else [])


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        pytest.param([b"Content-Length: x"], "malformed Content-Length", id="length-word"),
        pytest.param([b"Content-Length:"], "malformed Content-Length", id="length-empty"),
        pytest.param([b"Content-Length: 5, 5"], "malformed Content-Length", id="length-list"),
        pytest.param([b"Content-Length: 5"] * 2, "more than one", id="length-twice"),
        pytest.param(
            [b"Content-Length: 5", b"Transfer-Encoding: chunked"], "not just chunked", id="both"
        ),
        pytest.param([b"Transfer-Encoding: gzip, chunked"], "not just chunked", id="coding-list"),
        pytest.param([b"Transfer-Encoding: gzip"], "not just chunked", id="coding"),
        pytest.param([b"Transfer-Encoding:"], "not just chunked", id="coding-empty"),
        pytest.param([b"Transfer-Encoding: chunked"] * 2, "not just chunked", id="coding-twice"),
        pytest.param([b" folded"], "header name", id="obs-fold"),
        pytest.param([b"A : 1"], "header name", id="space-before-colon"),
        pytest.param([b"A"], "header line", id="no-colon"),
        pytest.param([b": x"], "header name", id="no-name"),
        pytest.param([b"A: \0"], "header line", id="nul"),  # aiohttp CVE-2026-34520
        pytest.param([b"A: b\rc"], "header line", id="bare-cr"),
        pytest.param([b"A: b\nC: d"], "header line", id="bare-lf"),
    ],
)
def test_broken_heads(lines: list[bytes], why: str) -> None:
    """A malformed head is refused with a message that has no bytes of the upstream."""
    with pytest.raises(UpstreamBroken, match=why):
        read_response(b"B: 1", *lines)


def test_transfer_encoding_in_http_1_0() -> None:
    """After Transfer-Encoding in HTTP/1.0 the connection is not used again (RFC 9112, 6.1)."""
    lines = (b"Transfer-Encoding: chunked", b"Connection: keep-alive")
    head = read_response(*lines, first=b"HTTP/1.0 200 OK")
    assert (head.framing, head.keep_alive) == (CHUNKED, False)


@pytest.mark.parametrize("count", [0, 1, 99])
def test_number_of_headers(count: int) -> None:
    """A response may have as many headers as the limit."""
    raw = raw_head(b"HTTP/1.1 200 OK", *[b"A: 1"] * count)
    head = response_parser(headers=count).parse(raw, to_head=False)
    assert len(passed_on(head)) == 1 + count
    if count:
        with pytest.raises(UpstreamBroken, match="too many"):
            response_parser(headers=count - 1).parse(raw, to_head=False)


@pytest.mark.parametrize(
    ("minor", "lines", "keeps"),
    [
        pytest.param(1, [], True, id="1.1"),  # 9112 section 9.3
        pytest.param(1, [b"Connection: keep-alive"], True, id="1.1-keep-alive"),
        pytest.param(1, [b"Connection: Close"], False, id="1.1-close"),
        pytest.param(1, [b"Connection: keep-alive", b"Connection: close"], False, id="1.1-both"),
        pytest.param(1, [b"Connection: a, close"], False, id="1.1-close-in-a-list"),
        pytest.param(0, [], False, id="1.0"),
        pytest.param(0, [b"Connection: x"], False, id="1.0-another-word"),
        pytest.param(0, [b"Connection: keep-alive"], True, id="1.0-keep-alive"),
        pytest.param(0, [b"Connection: Keep-Alive, close"], False, id="1.0-both"),
    ],
)
def test_persistence(minor: int, lines: list[bytes], keeps: bool) -> None:  # noqa: FBT001 (a table)
    """Version and Connection decide whether the upstream connection is used again."""
    head = read_response(*lines, b"Content-Length: 0", first=b"HTTP/1.%d 200 OK" % minor)
    assert head.keep_alive is keeps
    assert passed_on(head)[1:] == [b"Content-Length: 0"]


@pytest.mark.parametrize(
    ("lines", "upgrade"),
    [
        pytest.param([b"Upgrade: WebSocket", b"Connection: Upgrade"], b"websocket", id="named"),
        pytest.param([b"Connection: upgrade, x", b"Upgrade: h2c"], b"h2c", id="in-a-list"),
        pytest.param(
            [b"Connection: upgrade", b"Upgrade: H2C", b"Upgrade: websocket"],
            b"h2c, websocket",
            id="two-lines",  # 9110 section 5.3
        ),
        pytest.param([b"Upgrade: websocket"], None, id="not-named"),  # 9110 section 7.8
        pytest.param([b"Upgrade: websocket", b"Connection: keep-alive"], None, id="other-named"),
    ],
)
def test_upgrade(lines: list[bytes], upgrade: bytes | None) -> None:
    """Upgrade counts if Connection names it."""
    head = read_response(*lines, first=b"HTTP/1.1 101 Switching Protocols")
    assert head.upgrade == upgrade
    assert passed_on(head) == [b"HTTP/1.1 101 Switching Protocols"]


@pytest.mark.parametrize(
    ("named", "left"),
    [
        pytest.param(b"X-A", [b"B: 2", b"Content-Length: 5"], id="one"),
        pytest.param(b"x_a, b", [b"Content-Length: 5"], id="list-and-spelling"),
        pytest.param(b"content-length, b", [b"X-A: 1", b"Content-Length: 5"], id="length-stays"),
        pytest.param(b"content_length, b", [b"X-A: 1", b"Content-Length: 5"], id="misspelt-too"),
        pytest.param(b"http/1.1 200 ok", [b"X-A: 1", b"B: 2", b"Content-Length: 5"], id="nothing"),
    ],
)
def test_what_connection_names_ends_here(named: bytes, left: list[bytes]) -> None:
    """Headers that Connection names are dropped, except for the framing (RFC 9110, 7.6.1)."""
    head = read_response(b"X-A: 1", b"B: 2", b"Content-Length: 5", b"Connection: " + named)
    assert (head.framing, head.length) == (LENGTH, 5)
    assert passed_on(head) == [b"HTTP/1.1 200 OK", *left]


@pytest.mark.parametrize(
    ("lines", "has"),
    [
        pytest.param([b"A: 1"], False, id="none"),
        pytest.param([b"Cache-Control: max-age=60"], True, id="one"),
        pytest.param([b"cache-control:"], True, id="empty"),
        pytest.param([b"Cache-Control: a", b"CACHE-CONTROL: b"], True, id="two"),
        pytest.param([b"Cache_Control: a"], False, id="misspelt"),
        pytest.param([b"Connection: keep-alive", b"Cache-Control: a"], True, id="after-others"),
    ],
)
def test_cache_control(lines: list[bytes], has: bool) -> None:  # noqa: FBT001 (a table)
    """Cache-Control is noticed in its own spelling only, and passed on as received."""
    head = read_response(*lines)
    assert head.cache_control is has
    assert passed_on(head)[1:] == [each for each in lines if not each.startswith(b"Connection")]


def test_what_ends_here() -> None:
    """Hop-by-hop headers and another request id are dropped; all else is passed on."""
    kept = [b"Set-Cookie: a=1", b"Set-Cookie: b=2", b"Trailer: X", b"WWW-Authenticate: Basic"]
    dropped = [b"Keep-Alive: 5", b"proxy_authenticate: x", b"X-Request-Id: theirs", b"TE: x"]
    assert passed_on(read_response(*kept, *dropped))[1:] == kept


def test_a_head_in_one_line() -> None:
    """The repr of a head shows no header."""
    assert repr(read_response(b"Set-Cookie: secret")) == "<ResponseHead 200 UNTIL_CLOSE>"


@settings(deadline=None)
@given(response_heads, st.booleans())
def test_nothing_else_is_raised(raw: bytes, to_head: bool) -> None:  # noqa: FBT001 (drawn)
    """Any octets give UpstreamBroken, or a head with single lines and the framing as read."""
    try:
        head = response_parser().parse(raw, to_head=to_head)
    except UpstreamBroken:
        return
    lines = passed_on(head)
    assert lines[0].startswith(b"HTTP/1.1 %d " % head.status)
    assert not any(set(b"\r\n\0") & set(line) for line in lines)
    lengths = [line.partition(b":")[2] for line in lines if line.lower().startswith(b"content-l")]
    if head.framing is LENGTH:
        assert [int(value) for value in lengths] == [head.length]
    elif head.framing is not NONE:
        assert not lengths
    assert not any(line.lower().startswith((b"transfer-", b"connection:")) for line in lines)
