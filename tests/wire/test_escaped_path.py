"""The reading of paths whose escapes matter to the application."""

from __future__ import annotations

import contextlib
import tracemalloc

import pytest

from sidecar.errors import Malformed, PeerError
from sidecar.wire.escaped_path import is_ambiguous, read_escaped
from sidecar.wire.target import NormalisingTargetParser, TargetParser, read_escaped_target
from tests.wire.readers import raw_head, request_parser

OWN = (b"/auth",)


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        pytest.param(b"/api/queues/%2F/orders", "/api/queues/%2F/orders", id="rabbitmq-vhost"),
        pytest.param(b"/api/queues/%2f/", "/api/queues/%2f/", id="lower-case"),
        pytest.param(b"/projects/group%2Fname", "/projects/group%2Fname", id="gitlab-project"),
        pytest.param(b"/files/lib%2Fkey%2Erb", "/files/lib%2Fkey.rb", id="gitlab-file"),
        pytest.param(b"/@scope%2fname", "/@scope%2fname", id="npm"),
        pytest.param(b"/%40scope%2fname", "/@scope%2fname", id="npm-with-an-escaped-at"),
        pytest.param(b"/shop;jsessionid=1A.node1", "/shop;jsessionid=1A.node1", id="servlet"),
        pytest.param(b"/a;b=1;c/d;e", "/a;b=1;c/d;e", id="parameters"),
        pytest.param(b"/a%3Bb", "/a%3Bb", id="escaped-semicolon"),
        pytest.param(b"/q/50%2541", "/q/50%2541", id="escape-of-an-escape"),
        pytest.param(b"/q/a%252Fb", "/q/a%252Fb", id="slash-escaped-twice"),
        pytest.param(b"/caf%C3%A9%2F%C3%A9", "/café%2Fé", id="utf-8"),
        pytest.param(b"/a/...%2F.b/..c", "/a/...%2F.b/..c", id="dots-in-names"),
        pytest.param(b"/100%25%2F", "/100%%2F", id="percent-sign"),
        pytest.param(b"/plain", "/plain", id="plain"),
    ],
)
def test_read(path: bytes, seen: str) -> None:
    """Segments end at literal slashes; all is decoded once but escapes of separators."""
    assert read_escaped(path) == seen


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(b"/a/%2e%2e/b", id="dots"),
        pytest.param(b"/a/%2F../b", id="slash-dots"),
        pytest.param(b"/a%2F..%2Fb", id="slash-dots-slash"),
        pytest.param(b"/a/..;/b", id="dots-with-parameters"),
        pytest.param(b"/a/..;x=1/b", id="dots-with-a-parameter"),
        pytest.param(b"/a/.;x/b", id="dot-with-a-parameter"),
        pytest.param(b"/a/..%3Bx/b", id="dots-with-an-escaped-parameter"),
        pytest.param(b"/a/..%253B/b", id="dots-with-a-parameter-escaped-twice"),
        pytest.param(b"/a;x/../b", id="dots-behind-parameters"),
        pytest.param(b"/a;%2F..%2Fb", id="dots-in-parameters"),
        pytest.param(b"/a;../b", id="dots-as-a-parameter"),
        pytest.param(b"/a/%252e%252e/b", id="dots-escaped-twice"),
        pytest.param(b"/a/%252e./b", id="dots-escaped-by-half"),
        pytest.param(b"/a%252F..%252Fb", id="slash-dots-slash-escaped-twice"),
        pytest.param(b"/a/.%2e%252F", id="dots-and-slash-at-two-depths"),
        pytest.param(b"/a/%2e", id="dot-last"),
        pytest.param(b"/a/%2F.", id="slash-dot-last"),
        pytest.param(b"/a/./%2F", id="plain-dot"),
        pytest.param(b"/a//%2F", id="empty-segment"),
        pytest.param(b"//%2F", id="two-slashes-first"),
        pytest.param(b"/%2Fevil.example", id="authority"),
        pytest.param(b"/%252Fevil.example", id="authority-escaped-twice"),
        pytest.param(b"/;x%2F/%2Fevil.example", id="authority-behind-parameters"),
        pytest.param(b"/a%2F\\b", id="backslash"),
        pytest.param(b"/a%5Cb%2F", id="escaped-backslash"),
        pytest.param(b"/a%255Cb", id="backslash-escaped-twice"),
        pytest.param(b"/a%00%2F", id="nul"),
        pytest.param(b"/a%2500", id="nul-escaped-twice"),
        pytest.param(b"/a%0d%0a;", id="line-break"),
        pytest.param(b"/a%250a", id="line-feed-escaped-twice"),
        pytest.param(b"/a%7f%2F", id="delete"),
        pytest.param(b"/a%2", id="escape-cut-off"),
        pytest.param(b"/a%2g%2F", id="no-hexadecimal"),
        pytest.param(b"/a%%32F", id="escape-in-an-escape"),
        pytest.param(b"/a%u002f%2F", id="not-an-escape"),
        pytest.param(b"/a%25252F", id="escaped-three-times"),
        pytest.param(b"/a%C0%AE%2F", id="overlong"),
        pytest.param(b"/a%25C0%25AE", id="overlong-escaped-twice"),
        pytest.param(b"/a%E9%2F", id="latin-1"),
        pytest.param(b"/a%C3%2F%A9", id="slash-within-a-character"),
        pytest.param(b"/a#b%2F", id="fragment"),
        pytest.param(b"/a b%2F", id="space"),
        pytest.param(b"/\xc3\xa9%2F", id="not-ascii"),
    ],
)
def test_never(path: bytes) -> None:
    """No route can accept what leads elsewhere for some reader, or what is malformed."""
    assert read_escaped(path) is None


def test_the_query_is_not_part_of_the_path() -> None:
    """A query may have any escapes, and must be well-formed all the same."""
    assert read_escaped_target(b"/a%2Fb?c=%2e%2e/;d") == "/a%2Fb"
    assert read_escaped_target(b"/a%2Fb?") == "/a%2Fb"
    assert read_escaped_target(b"/a%2Fb?c#d") is None


@pytest.mark.parametrize(
    ("path", "ambiguous"),
    [
        pytest.param("/a;b", True, id="parameter"),
        pytest.param("/a%2Fb", True, id="slash"),
        pytest.param("/a%2541", True, id="escape"),
        pytest.param("/100%", False, id="percent-sign"),
        pytest.param("/a/b.c", False, id="plain"),
    ],
)
def test_is_ambiguous(path: str, ambiguous: bool) -> None:  # noqa: FBT001 (a table)
    """What routes see shows whether servers could read it differently."""
    assert is_ambiguous(path) is ambiguous


@pytest.mark.parametrize("paths", [TargetParser(), NormalisingTargetParser(OWN)])
def test_only_where_a_route_says_so(paths: TargetParser) -> None:
    """Method, authority and path decide; the target is forwarded octet by octet."""
    asked: list[tuple[bytes, bytes, str]] = []

    def passes(method: bytes, host: bytes, path: str) -> bool:
        asked.append((method, host, path))
        return method == b"GET"

    parser = request_parser(paths=paths)
    head = raw_head(b"GET /a%2Fb;c?d=%2F HTTP/1.1", b"Host: h")
    with pytest.raises(PeerError, match="ambiguous path"):
        parser.parse(head)
    paths.passes_escapes = passes
    for _ in range(2):
        read = parser.parse(head)
        assert (read.path, read.target) == ("/a%2Fb;c", b"/a%2Fb;c?d=%2F")
    absolute = parser.parse(raw_head(b"GET http://h/a%2Fb HTTP/1.1", b"Host: h"))
    assert (absolute.path, absolute.target) == ("/a%2Fb", b"/a%2Fb")
    with pytest.raises(PeerError, match="ambiguous path"):
        parser.parse(raw_head(b"PUT /a%2Fb HTTP/1.1", b"Host: h"))
    with pytest.raises(PeerError, match="malformed query"):
        parser.parse(raw_head(b"GET /a?b#c HTTP/1.1", b"Host: h"))
    with pytest.raises(PeerError, match="ambiguous path"):
        parser.parse(raw_head(b"GET /a%2F.. HTTP/1.1", b"Host: h"))
    assert asked == [
        *[(b"GET", b"h", "/a%2Fb;c")] * 2,
        (b"GET", b"h", "/a%2Fb"),
        (b"PUT", b"h", "/a%2Fb"),
    ]


@pytest.mark.parametrize("padding", [b"", b"x" * 300], ids=["short", "long"])
def test_what_is_remembered_is_bounded(padding: bytes) -> None:
    """Ever new targets do not fill the memory, whether their escapes pass or not."""
    paths = TargetParser()
    tracemalloc.start()
    try:
        for number in range(10_000):
            paths.passes_escapes = lambda *_, passes=number % 2 == 0: passes
            target = b"/a%%2F%d%b" % (number, padding)
            refusal = PeerError(400, "ambiguous path", Malformed.PATH)
            with contextlib.suppress(PeerError):
                assert paths.parse_escaped(b"GET", b"h", target, refusal) == target.decode()
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()
