"""The request target has one meaning or is refused (RFC 9112 section 3.2, RFC 3986)."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.errors import PeerError
from sidecar.wire.target import (
    NormalisingTargetParser,
    TargetParser,
    is_host,
    normalise,
    oversize,
    split_absolute,
)

ROOM: Final = 2048  # paths that are remembered


@pytest.mark.parametrize(
    ("target", "path"),
    [
        pytest.param(b"/", "/", id="root"),
        pytest.param(b"/a/b.c", "/a/b.c", id="plain"),
        pytest.param(b"/a/", "/a/", id="slash-at-end"),
        pytest.param(
            b"/!$&'()*+,=:@-._~", "/!$&'()*+,=:@-._~", id="all-of-pchar"
        ),  # 3986 section 3.3
        pytest.param(b'/[]^`{|}"<>', '/[]^`{|}"<>', id="visible-others"),
        pytest.param(b"/%61%41", "/aA", id="escape-of-a-letter"),
        pytest.param(b"/a%20b", "/a b", id="space"),
        pytest.param(b"/caf%C3%a9", "/café", id="utf-8"),
        pytest.param(b"/100%25", "/100%", id="percent"),
        pytest.param(b"/%25zz", "/%zz", id="percent-before-letters"),
        pytest.param(b"/a%3Fb", "/a?b", id="question-mark"),
        pytest.param(b"/a%23b", "/a#b", id="number-sign"),
        pytest.param(b"/.well-known/x", "/.well-known/x", id="dot-name"),
        pytest.param(b"/...", "/...", id="three-dots"),
        pytest.param(b"/a..b/..c/d..", "/a..b/..c/d..", id="dots-within"),
        pytest.param(b"/a?", "/a", id="empty-query"),
        pytest.param(b"/a?/../%zz\\;?//%00", "/a", id="any-query"),
    ],
)
def test_paths(target: bytes, path: str) -> None:
    """Routes match the decoded path without the query."""
    paths = TargetParser()
    for _ in range(2):  # judged, then looked up
        assert paths.parse(target) == path


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(b"/../a", id="dot-segment"),  # 3986 section 5.2.4
        pytest.param(b"/a/..", id="dot-segment-at-end"),
        pytest.param(b"/./a", id="single-dot"),
        pytest.param(b"/a/.", id="single-dot-at-end"),
        pytest.param(b"//a", id="empty-segment"),
        pytest.param(b"/a//", id="empty-segment-at-end"),
        pytest.param(b"/%2e%2e/a", id="escaped-dots"),
        pytest.param(b"/.%2E/a", id="half-escaped-dots"),
        pytest.param(b"/a%2eb", id="escaped-dot"),
        pytest.param(b"/a%2fb", id="escaped-slash"),
        pytest.param(b"/a%2Fb", id="escaped-slash-capital"),
        pytest.param(b"/a%5cb", id="escaped-backslash"),
        pytest.param(b"/a\\b", id="backslash"),
        pytest.param(b"/..;/a", id="dots-with-parameter"),
        pytest.param(b"/a;b", id="parameter"),
        pytest.param(b"/a%3bb", id="escaped-semicolon"),
        pytest.param(b"/a%00", id="escaped-nul"),
        pytest.param(b"/a%0a", id="escaped-newline"),
        pytest.param(b"/a%7f", id="escaped-delete"),
        pytest.param(b"/%252e%252e/", id="double-escape"),
        pytest.param(b"/%25%32%65", id="escape-made-of-escapes"),
        pytest.param(b"/%", id="lone-percent"),
        pytest.param(b"/%2", id="short-escape"),
        pytest.param(b"/%2g", id="bad-escape"),
        pytest.param(b"/%u002e", id="iis-escape"),
        pytest.param(b"/%c0%ae", id="overlong"),  # 3629 section 3
        pytest.param(b"/%ff", id="not-utf-8"),
        pytest.param(b"/%ed%a0%80", id="surrogate"),
        pytest.param(b"/caf\xc3\xa9", id="raw-utf-8"),
        pytest.param(b"/a b", id="space"),
        pytest.param(b"/a\tb", id="tab"),
        pytest.param(b"/a\0", id="nul"),
        pytest.param(b"/a#b", id="fragment"),
        pytest.param(b"/a%23%2f", id="escaped-slash-among-others"),
        pytest.param(b"/a?b#c", id="fragment-in-query"),
        pytest.param(b"/a?b c", id="space-in-query"),
        pytest.param(b"/a?\xe9", id="raw-in-query"),
        pytest.param(b"/a?\0", id="nul-in-query"),
    ],
)
def test_ambiguous(target: bytes) -> None:
    """A path that two servers could read differently is refused with 400 each time."""
    paths = TargetParser()
    for _ in range(2):
        with pytest.raises(PeerError) as caught:
            paths.parse(target)
        assert caught.value.status == 400
    if b"?" not in target:
        assert not paths


pieces = st.sampled_from(
    [b"/", b".", b"%", b"2", b"e", b"f", b"%2e", b"%2f", b"a", b";", b"?", b"\\"]
)


@settings(deadline=None)
@given(st.lists(pieces | st.binary(min_size=1, max_size=2), max_size=10).map(b"".join))
def test_one_meaning(rest: bytes) -> None:
    """Decoding an accepted path again, or resolving dots and slashes, changes nothing."""
    target = b"/" + rest
    paths = TargetParser()
    try:
        path = paths.parse(target)
    except PeerError:
        return
    assert paths.parse(target) == path == TargetParser().parse(target)
    raw = target.partition(b"?")[0]
    assert path.encode() == unquote_to_bytes(raw)
    assert unquote_to_bytes(path.encode()) == path.encode()
    segments = path.split("/")
    assert not {".", ".."} & set(segments)
    assert "" not in segments[1:-1]
    assert not set(path) & set("\\;\0\r\n")
    assert b"%2f" not in raw.lower()


def test_paths_are_bounded() -> None:
    """A client that invents paths cannot make the cache large, in number or in size."""
    paths = TargetParser()
    for number in range(ROOM + 10):
        assert paths.parse(b"/%d?%d" % (number, number)) == f"/{number}"
        assert len(paths) <= ROOM
    assert paths.parse(b"/" + b"a" * 256) == "/" + "a" * 256
    assert paths.parse(b"/" + b"a" * 255) == "/" + "a" * 255
    assert max(map(len, paths)) == 256


OWN: Final = (b"/auth/verify", b"/auth", b"/.well-known/jwks.json")


@pytest.mark.parametrize(
    ("target", "goes_on", "path"),
    [
        pytest.param(b"/a/b", b"/a/b", "/a/b", id="plain"),
        pytest.param(b"/a/../b", b"/b", "/b", id="dot-segments"),  # 3986 section 5.2.4
        pytest.param(b"/a/./b/", b"/a/b/", "/a/b/", id="single-dot"),
        pytest.param(b"/a/b/..", b"/a/", "/a/", id="dot-segments-at-end"),
        pytest.param(b"/a/.", b"/a/", "/a/", id="single-dot-at-end"),
        pytest.param(b"/a/..", b"/", "/", id="to-the-root"),
        pytest.param(b"/a/%2e%2E/b", b"/b", "/b", id="escaped-dots"),  # 3986 section 6.2.2.2
        pytest.param(b"//a///b//", b"/a/b/", "/a/b/", id="empty-segments"),
        pytest.param(b"/a//../b", b"/b", "/b", id="empty-segment-does-not-count"),
        pytest.param(b"/%61%2Db", b"/a-b", "/a-b", id="needless-escapes"),
        pytest.param(b"/caf%c3%a9", b"/caf%C3%A9", "/café", id="capital-digits"),  # 6.2.2.1
        pytest.param(b"/a%3fb%20c", b"/a%3Fb%20c", "/a?b c", id="needed-escapes"),
        pytest.param(b"/a/../b?/../%2f//#"[:-1], b"/b?/../%2f//", "/b", id="query-stays"),
        pytest.param(b"/a/../b?", b"/b?", "/b", id="empty-query-stays"),
        pytest.param(b"/author//x", b"/author/x", "/author/x", id="not-our-own"),
        pytest.param(b"/" + b"a/../" * 100 + b"b", b"/b", "/b", id="too-long-to-remember"),
    ],
)
def test_normalised(target: bytes, goes_on: bytes, path: str) -> None:
    """Routes and upstream get one path, and the query is unchanged, also from the cache."""
    paths = NormalisingTargetParser(OWN)
    for _ in range(2):
        assert paths.parse(target) == path
        assert paths.as_forwarded(target) == goes_on


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(b"/../a", id="above-the-root"),
        pytest.param(b"/a/../../b", id="above-the-root-later"),
        pytest.param(b"/a/..%2fb", id="escaped-slash"),
        pytest.param(b"/a%5c..", id="escaped-backslash"),
        pytest.param(b"/a\\..\\b", id="backslash"),
        pytest.param(b"/a/..;/b", id="parameters"),
        pytest.param(b"/a%00", id="nul"),
        pytest.param(b"/%252e%252e/a", id="escape-of-an-escape"),
        pytest.param(b"/%2", id="malformed-escape"),
        pytest.param(b"/%2%35", id="malformed-escape-that-would-become-one"),
        pytest.param(b"/a/../%ff", id="not-utf-8"),
        pytest.param(b"/a/../b?#", id="fragment"),
        pytest.param(b"/a%2fx/../b", id="escaped-slash-that-would-fall-away"),
        pytest.param(b"/a\\x/../b", id="backslash-that-would-fall-away"),
        pytest.param(b"/a;x/../b", id="parameters-that-would-fall-away"),
        pytest.param(b"/a#x/../b", id="fragment-that-would-fall-away"),
        pytest.param(b"/%00/../b", id="nul-that-would-fall-away"),
        pytest.param(b"/%252e/../b", id="escape-of-an-escape-that-would-fall-away"),
        pytest.param(b"/%c0%ae/../b", id="not-utf-8-that-would-fall-away"),
        pytest.param(b"/\xe9/../b", id="raw-octet-that-would-fall-away"),
        pytest.param(b"/x/../auth/login", id="into-our-own"),
        pytest.param(b"//auth/login", id="to-our-own"),
        pytest.param(b"/%61uth", id="our-own-escaped"),
        pytest.param(b"/auth/../x", id="out-of-our-own"),
        pytest.param(b"/auth/verify/envoy/../../../x", id="asked-by-a-proxy"),
        pytest.param(b"/auth/verify/envoy/a//b", id="asked-by-a-proxy-within"),
    ],
)
def test_not_to_be_normalised(target: bytes) -> None:
    """A path that stays ambiguous, or leads to the sidecar's own paths, is refused."""
    paths = NormalisingTargetParser(OWN)
    for _ in range(2):
        with pytest.raises(PeerError) as raised:
            paths.parse(target)
        assert raised.value.status == 400


@settings(deadline=None, max_examples=500)
@given(st.lists(pieces | st.sampled_from([b"/", b"..", b"."]), max_size=12).map(b"".join))
def test_normalised_once_is_normalised(rest: bytes) -> None:
    """A normalised target is accepted by the strict parser, and stays unchanged."""
    paths = NormalisingTargetParser(OWN)
    target = b"/" + rest
    try:
        path = paths.parse(target)
    except PeerError:
        return
    goes_on = paths.as_forwarded(target)
    assert TargetParser().parse(goes_on) == path
    assert normalise(goes_on.partition(b"?")[0]) == goes_on.partition(b"?")[0]
    received = target.partition(b"?")[0]
    assert not set(unquote_to_bytes(received)) & set(b"\\;\0")
    assert b"%2f" not in received.lower()
    assert not any(segment in {".", ".."} for segment in path.split("/"))


@given(st.lists(pieces, max_size=10).map(b"".join))
def test_plain_is_left_alone(rest: bytes) -> None:
    """What the strict parser accepts is accepted with the same result."""
    target = b"/" + rest
    try:
        path = TargetParser().parse(target)
    except PeerError:
        return
    assert NormalisingTargetParser(OWN).parse(target) == path


def test_normalised_paths_are_bounded() -> None:
    """The cache is limited, and a path that was dropped from it gives the same result."""
    paths = NormalisingTargetParser(OWN)
    for number in range(ROOM + 10):
        paths.parse(b"/x/../%d" % number)
    assert len(paths) <= ROOM
    assert paths.parse(b"/x/../5") == "/5"
    assert paths.as_forwarded(b"/x/../5") == b"/5"


@pytest.mark.parametrize(
    ("target", "authority", "rest"),
    [
        pytest.param(b"http://h", b"h", b"", id="bare"),
        pytest.param(b"HTTPS://h:1/", b"h:1", b"/", id="port"),
        pytest.param(b"http://[::1]/a?b?c", b"[::1]", b"/a?b?c", id="query"),
        pytest.param(b"http://h?b/c", b"h", b"/?b/c", id="query-without-path"),
    ],
)
def test_absolute_form(target: bytes, authority: bytes, rest: bytes) -> None:
    """An absolute target is split into authority and origin form (RFC 9112 section 3.2.2)."""
    assert split_absolute(target) == (authority, rest)


@pytest.mark.parametrize(
    ("start", "status"),
    [
        pytest.param(b"A" * 40, 501, id="method"),
        pytest.param(b"GET /" + b"a" * 40, 414, id="target"),
        pytest.param(b"GET / HTTP/1.1\r\nA: " + b"b" * 40, 431, id="fields"),
    ],
)
def test_which_part_is_too_long(start: bytes, status: int) -> None:
    """The status for an endless head depends on the part that is too long (RFC 9112, 3)."""
    assert oversize(start).status == status


@pytest.mark.parametrize(
    "target",
    [
        *(b"", b"h", b"h:80", b"//h/", b"ftp://h/", b"http:/h", b"http:h", b"http://"),
        *(b"http:///a", b"http://u@h/", b"http://u:p@h/", b"http://h/#f", b"http://h\\a"),
        *(b"http://?a", b"httpx://h/", b" http://h/"),
    ],
)
def test_no_absolute_form(target: bytes) -> None:
    """Other schemes, user information and fragments are refused (RFC 9110 section 4.2.4)."""
    with pytest.raises(PeerError):
        split_absolute(target)


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        pytest.param(b"h", True, id="name"),
        pytest.param(b"H.example.:80", True, id="dot-at-end-and-port"),
        pytest.param(b"a_b-c~1", True, id="reg-name"),
        pytest.param(b"a%20b", False, id="escaped"),
        pytest.param(b"192.0.2.1:65535", True, id="ipv4"),
        pytest.param(b"[2001:db8::1]:80", True, id="ipv6"),
        pytest.param(b"[::ffff:192.0.2.1]", True, id="ipv6-mapped"),
        pytest.param(b"h:", True, id="empty-port"),  # 3986 section 3.2.3
        pytest.param(b"", False, id="empty"),
        pytest.param(b":80", False, id="port-alone"),
        pytest.param(b"h:123456", False, id="port-too-long"),
        pytest.param(b"h:8a", False, id="port-letters"),
        pytest.param(b"h:80:80", False, id="two-ports"),
        pytest.param(b"::1", False, id="ipv6-bare"),
        pytest.param(b"[::1", False, id="ipv6-open"),
        pytest.param(b"[::1]x", False, id="ipv6-and-more"),
        pytest.param(b"[x]", False, id="brackets-around-a-name"),
        pytest.param(b"u@h", False, id="user-information"),
        pytest.param(b"h/a", False, id="slash"),
        pytest.param(b"h\\a", False, id="backslash"),
        pytest.param(b"h a", False, id="space"),
        pytest.param(b"h%2", False, id="bad-escape"),
        pytest.param(b'h"', False, id="quote"),
        pytest.param(b"h\n", False, id="newline"),
        pytest.param(b"h\xe9", False, id="not-ascii"),
    ],
)
def test_is_host(value: bytes, valid: bool) -> None:  # noqa: FBT001 (a table)
    """A host is as in RFC 9110 section 7.2, and never empty."""
    assert is_host(value) is valid
