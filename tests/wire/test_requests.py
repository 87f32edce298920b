"""Request heads: what is accepted, and the attributes of the head (RFC 9110, RFC 9112)."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings

from sidecar.errors import PeerError
from sidecar.wire.head import Framing
from tests.wire.readers import (
    passed_on,
    raw_head,
    read_request,
    request_heads,
    request_parser,
)


def test_plain_request() -> None:
    """A typical request has a Host, and lines that are passed on unchanged."""
    raw = raw_head(b"GET /a%20b?c=%zz HTTP/1.1", b"hOST:\t h.example:80 ", b"Accept:  */*  ", b"B:")
    head = request_parser().parse(raw)
    assert (head.method, head.target, head.path) == (b"GET", b"/a%20b?c=%zz", "/a b")
    assert (head.minor, head.keep_alive, head.framing, head.length) == (1, True, Framing.NONE, -1)
    assert head.host == b"h.example:80"
    assert passed_on(head) == [b"hOST:\t h.example:80 ", b"Accept:  */*  ", b"B:"]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"GET / HTTP/1.1 ", id="space-at-end"),
        pytest.param(b" GET / HTTP/1.1", id="space-at-start"),
        pytest.param(b"GET  / HTTP/1.1", id="two-spaces"),  # 9112 section 3
        pytest.param(b"GET\t/\tHTTP/1.1", id="tabs"),
        pytest.param(b"GET /a b HTTP/1.1", id="space-in-target"),  # 9112 section 3.2
        pytest.param(b"GET /", id="http-0.9"),
        pytest.param(b"GET  HTTP/1.1", id="no-target"),
        pytest.param(b"G@T / HTTP/1.1", id="method-no-token"),  # 9110 section 9.1
        pytest.param(b" / HTTP/1.1", id="no-method"),
        pytest.param(b"GET / http/1.1", id="version-small"),  # 9112 section 2.3: case-sensitive
        pytest.param(b"GET / HTTP/1.10", id="version-long"),
        pytest.param(b"GET / HTTP/11", id="version-without-dot"),
        pytest.param(b"GET / HTTP/1.1\r", id="bare-cr-at-end"),  # 9112 section 2.2
        pytest.param(b"GET /\r HTTP/1.1", id="bare-cr-in-target"),
        pytest.param(b"GET /\n HTTP/1.1", id="lf-in-target"),
        pytest.param(b"GET / HTTP/1.1\nHost: h", id="lf-for-crlf"),
        pytest.param(b"GET /\0 HTTP/1.1", id="nul"),
        pytest.param(b"GET a HTTP/1.1", id="relative"),
        pytest.param(b"GET * HTTP/1.1", id="asterisk-of-get"),  # 9112 section 3.2.4
        pytest.param(b"GET h:80 HTTP/1.1", id="authority-form-of-get"),
        pytest.param(b"GET ftp://h/ HTTP/1.1", id="other-scheme"),
        pytest.param(b"GET http://u@h/ HTTP/1.1", id="user-information"),
        pytest.param(b"GET http:///a HTTP/1.1", id="empty-authority"),
        pytest.param(b'GET http://h"/ HTTP/1.1', id="bad-authority"),
        pytest.param(b"GET /a#b HTTP/1.1", id="fragment"),
        pytest.param(b"GET /a?b#c HTTP/1.1", id="fragment-after-query"),
        pytest.param(b"GET http://h/#c HTTP/1.1", id="fragment-of-absolute"),
        pytest.param(b"GET http://other/ HTTP/1.1", id="host-contradicts"),  # 9112 section 3.2.2
    ],
)
def test_malformed_request_line(line: bytes) -> None:
    """A request line that is not exactly of the right form is refused with 400."""
    with pytest.raises(PeerError) as caught:
        read_request(first=line)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("line", "status"),
    [
        pytest.param(b"GET / HTTP/2.0", 505, id="http-2"),  # 9110 section 15.6.6
        pytest.param(b"PRI * HTTP/2.0", 505, id="http-2-preface"),
        pytest.param(b"GET / HTTP/1.2", 505, id="higher-minor"),
        pytest.param(b"GET / HTTP/0.9", 505, id="http-0.9-said"),
        pytest.param(b"TRACE / HTTP/1.1", 405, id="trace"),  # 9110 section 9.3.8: it echoes
        pytest.param(b"CONNECT h:443 HTTP/1.1", 405, id="connect"),  # 9110 section 9.3.6
        pytest.param(b"CONNECT /a HTTP/1.1", 405, id="connect-origin-form"),
        pytest.param(b"CONNECT http://h/ HTTP/1.1", 405, id="connect-absolute-form"),
    ],
)
def test_refused_with_a_status_of_its_own(line: bytes, status: int) -> None:
    """A well-formed request line that is not served has a specific status."""
    with pytest.raises(PeerError) as caught:
        read_request(first=line)
    assert caught.value.status == status


@pytest.mark.parametrize("method", [b"GET", b"OPTIONS", b"PROPFIND", b"M-SEARCH", b"X-1"])
def test_any_word_in_upper_case_is_a_method(method: bytes) -> None:
    """A method that a rule can name is passed on as it is (RFC 9110 section 9.1)."""
    assert read_request(first=method + b" / HTTP/1.1").method == method


@pytest.mark.parametrize(
    ("target", "sent", "path"),
    [
        pytest.param(b"http://H/a?b", b"/a?b", "/a", id="path-and-query"),
        pytest.param(b"HTTPS://H", b"/", "/", id="nothing"),
        pytest.param(b"http://H?b", b"/?b", "/", id="query-alone"),
        pytest.param(b"http://H/%61", b"/%61", "/a", id="escape"),
    ],
)
def test_absolute_form(target: bytes, sent: bytes, path: str) -> None:
    """Absolute form becomes origin form, and its authority replaces Host (RFC 9112, 3.2.2)."""
    head = read_request(b"A: 1", first=b"GET %b HTTP/1.1" % target)
    assert (head.target, head.path, head.host) == (sent, path, b"H")
    assert passed_on(head) == [b"Host: H", b"A: 1"]


def test_options_of_a_whole_server() -> None:
    """OPTIONS in absolute form without path and query becomes `*` (RFC 9112, 3.2.4)."""
    head = read_request(first=b"OPTIONS http://H HTTP/1.1")
    assert (head.target, head.path, head.host) == (b"*", "*", b"H")
    for target in (b"http://H/", b"http://H?a"):
        assert read_request(first=b"OPTIONS %b HTTP/1.1" % target).path == "/"


def test_absolute_form_contradicts_host_in_http_1_0() -> None:
    """In HTTP/1.0, a Host may not contradict the target either."""
    with pytest.raises(PeerError):
        read_request(first=b"GET http://other/ HTTP/1.0")


def test_absolute_form_without_host() -> None:
    """Only HTTP/1.1 requires Host (RFC 9112 section 3.2); the request is passed on with one."""
    for first in (b"GET http://h/ HTTP/1.1", b'GET http://h"/ HTTP/1.0'):
        with pytest.raises(PeerError):
            read_request(first=first, host=False)
    head = read_request(first=b"GET http://H:80/ HTTP/1.0", host=False)
    assert head.host == b"H:80"
    assert passed_on(head) == [b"Host: H:80"]


def test_asterisk_form() -> None:
    """OPTIONS may be about the whole server (RFC 9112 section 3.2.4)."""
    head = read_request(first=b"OPTIONS * HTTP/1.1")
    assert (head.target, head.path) == (b"*", "*")
    assert read_request(first=b"OPTIONS http://h/a HTTP/1.1").path == "/a"


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([], id="missing"),
        pytest.param([b"Host: a", b"Host: a"], id="twice"),
        pytest.param([b"Host:"], id="empty"),
        pytest.param([b"Host: a b"], id="space"),
        pytest.param([b"Host: a/b"], id="path"),
        pytest.param([b"Host: u@a"], id="user-information"),
        pytest.param([b"Host: a,b:1:2"], id="two-ports"),
        pytest.param([b"Host: a:http"], id="named-port"),
        pytest.param([b"Host: \xc3\xa4"], id="not-ascii"),
        pytest.param([b'Host: a"'], id="quote"),
    ],
)
def test_bad_host(lines: list[bytes]) -> None:
    """A request has exactly one valid Host (RFC 9112 section 3.2)."""
    with pytest.raises(PeerError) as caught:
        read_request(*lines, host=False)
    assert caught.value.status == 400


def test_http_1_0_goes_on_with_a_host() -> None:
    """An HTTP/1.0 request gets a Host, because it is forwarded as HTTP/1.1 (RFC 9112, 3.2)."""
    head = read_request(b"A: 1", first=b"GET / HTTP/1.0", host=False)
    assert head.host == b""
    assert sum(line.lower().startswith(b"host:") for line in passed_on(head)) == 1


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b" folded", id="obs-fold"),  # 9112 section 5.2
        pytest.param(b"\tfolded: x", id="obs-fold-tab"),
        pytest.param(b"A : 1", id="space-before-colon"),  # 9112 section 5.1
        pytest.param(b"A\t: 1", id="tab-before-colon"),
        pytest.param(b": 1", id="no-name"),
        pytest.param(b"A", id="no-colon"),
        pytest.param(b"Host", id="known-name-no-colon"),
        pytest.param(b"A(b): 1", id="name-no-token"),
        pytest.param(b"A\xe9: 1", id="name-not-ascii"),
        pytest.param(b"A\0: 1", id="nul-in-name"),
        pytest.param(b"A: b\0", id="nul"),  # 9110 section 5.5
        pytest.param(b"A: b\rc", id="bare-cr"),
        pytest.param(b"A: b\nc: d", id="bare-lf"),
        pytest.param(b"A: b\x0b", id="vertical-tab"),
        pytest.param(b"A: b\x7f", id="delete"),
        pytest.param(b"Authorization: Bearer a\x01", id="control-in-a-secret"),
    ],
)
def test_malformed_header_line(line: bytes) -> None:
    """A malformed line is refused with 400 at any position (RFC 9112 section 5)."""
    for lines in ([line], [b"A: 1", line, b"B: 2"]):
        with pytest.raises(PeerError) as caught:
            read_request(*lines)
        assert caught.value.status == 400


@pytest.mark.parametrize("count", [0, 1, 99])
def test_number_of_headers(count: int) -> None:
    """A request may have as many headers as the limit (RFC 6585 section 5)."""
    lines = [b"Host: h", *[b"A: 1"] * count]
    head = request_parser(headers=count + 1).parse(raw_head(b"GET / HTTP/1.1", *lines))
    assert passed_on(head) == lines
    with pytest.raises(PeerError) as caught:
        request_parser(headers=count).parse(raw_head(b"GET / HTTP/1.1", *lines))
    assert caught.value.status == 431


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([b"Authorization: Bearer x"], {"authorization": b"Bearer x"}, id="bearer"),
        pytest.param(
            [b"authorization: Bearer x", b"Authorization: Bearer y"],
            {"authorization": b"Bearer x", "repeated": frozenset({b"authorization"})},
            id="bearer-twice",
        ),
        pytest.param([b"Cookie: a=1"], {"cookie": b"a=1"}, id="cookie"),
        pytest.param([b"Cookie: a=1", b"COOKIE: b=2"], {"cookie": b"a=1; b=2"}, id="cookies"),
        pytest.param([b"Origin: https://h"], {"origin": b"https://h"}, id="origin"),
        pytest.param(
            [b"Origin: https://h", b"Origin: null"],
            {"origin": b"null", "repeated": frozenset({b"origin"})},
            id="origin-twice",
        ),
        pytest.param([b"Sec-Fetch-Site: none"], {"fetch_site": b"none"}, id="fetch-site"),
        pytest.param(
            [b"Sec-Fetch-Site: none"] * 2,
            {"fetch_site": b"none", "repeated": frozenset({b"sec-fetch-site"})},
            id="fetch-site-twice",
        ),
        pytest.param([b"Expect: 100-Continue"], {"expect_continue": True}, id="expect"),
        pytest.param([b"Expect: 200-ok"], {"expect_continue": False}, id="expect-other"),
    ],
)
def test_what_is_read_and_passed_on(lines: list[bytes], expected: dict[str, Any]) -> None:
    """The headers that the sidecar reads are passed on as well, in their order."""
    expected = {"repeated": frozenset(), "host": b"h", **expected}
    for order in ([b"Host: h", *lines], [*lines, b"Host: h"]):
        head = read_request(*order, host=False)
        assert {name: getattr(head, name) for name in expected} == expected
        assert passed_on(head) == order


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        pytest.param(b"abc-1.2:3/4+5=6@7_8", b"abc-1.2:3/4+5=6@7_8", id="plain"),
        pytest.param(b"x" * 128, b"x" * 128, id="longest"),
        pytest.param(b"x" * 129, None, id="too-long"),
        pytest.param(b"", None, id="empty"),
        pytest.param(b'a"b', None, id="quote"),
        pytest.param(b"a b", None, id="space"),
        pytest.param(b"caf\xe9", None, id="not-ascii"),
    ],
)
def test_request_id(value: bytes, taken: bytes | None) -> None:
    """A client's id is used if it is safe to log; its line is never passed on."""
    head = read_request(b"X-Request-Id: " + value)
    assert head.request_id == taken
    assert passed_on(head) == [b"Host: h"]


def test_forwarded_headers_are_kept_apart() -> None:
    """Forwarded headers are collected for a later check of the peer; lists are joined."""
    head = read_request(
        b"X-Forwarded-For: 192.0.2.1",
        b"x-forwarded-for: 192.0.2.2",
        b"X-Original-URI: /a",
        b"X_Forwarded_Proto: https",
        b"X-Forwarded-Server: b",
    )
    assert head.forwarded == {
        b"x-forwarded-for": b"192.0.2.1, 192.0.2.2",
        b"x-original-uri": b"/a",
    }
    assert passed_on(head) == [b"Host: h"]


def test_a_head_in_one_line() -> None:
    """The repr of a head shows no header value."""
    head = read_request(b"Authorization: Bearer secret", b"Content-Length: 5")
    assert repr(head) == "<RequestHead GET / LENGTH>"
    parser = request_parser()
    parser.parse(raw_head(b"PUT /x HTTP/1.1", b"Host: h", b"Cookie: secret"))
    assert repr(parser) == "<RequestParser last=<RequestHead PUT /x NONE>>"


@settings(deadline=None)
@given(request_heads)
def test_nothing_else_is_raised(raw: bytes) -> None:
    """Any octets give a PeerError, or a head whose lines are single lines."""
    try:
        head = request_parser().parse(raw)
    except PeerError:
        return
    assert not head.lines or head.lines.endswith(b"\r\n")
    assert not any(set(b"\r\n\0") & set(line) for line in passed_on(head))
    assert head.path.startswith("/") or head.path == "*"
    assert b" " not in head.target


@pytest.mark.parametrize("first", ["GET / HTTP/1.1", "POST /a HTTP/1.1", "GET / HTTP/1.0"])
@pytest.mark.parametrize("lines", [["Host: h"], ["Host: h", "A: 1", "Content-Length: 3"]])
@pytest.mark.parametrize(
    "rest",
    [
        pytest.param("", id="alone"),
        pytest.param("GET /b HTTP/1.1\r\nHost: other\r\n\r\n", id="another-head"),
        pytest.param("\r\n\r\n", id="empty-lines"),
        pytest.param("a: \0\n b\r\n\r\n", id="malformed"),
        pytest.param("A: 1\r\n" * 500 + "\r\n", id="too-many-lines"),
    ],
)
def test_only_the_first_head_is_read(first: str, lines: list[str], rest: str) -> None:
    """What comes behind the first empty line is not looked at, also if the head was seen before."""
    raw = raw_head(first.encode(), *map(str.encode, lines))
    alone, parser = request_parser(), request_parser()
    expected = alone.parse(raw)
    assert alone.taken == len(raw)
    for behind in (rest, rest, ""):
        head = parser.parse(raw + behind.encode())
        assert parser.taken == len(raw)
        assert (head.lines, head.host, head.length) == (expected.lines, b"h", expected.length)


def test_lines_behind_the_head_are_not_split() -> None:
    """A body of short lines behind the head takes no more memory than copies of the octets."""
    raw = raw_head(b"POST / HTTP/1.1", b"Host: h") + b"\r\n" * 16_000
    parser = request_parser()
    tracemalloc.start()
    try:
        parser.parse(raw)
        assert tracemalloc.get_traced_memory()[1] < 3 * len(raw)
    finally:
        tracemalloc.stop()
