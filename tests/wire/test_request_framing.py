"""Request heads: the length of the body, hop-by-hop headers, persistence of the connection."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.errors import PeerError
from sidecar.wire.head import Framing
from sidecar.wire.header_kinds import FORWARDED, HOP_BY_HOP, PATH_OVERRIDES
from tests.wire.readers import IDENTITY, REQUEST_LINES, passed_on, read_request

OTHER_MARKS = (b"_", b".", b"~", b"!", b"'", b"+")  # a dash to some servers that fold names
NONE, LENGTH, CHUNKED = Framing.NONE, Framing.LENGTH, Framing.CHUNKED


@pytest.mark.parametrize(
    ("lines", "framing", "length"),
    [
        pytest.param([], NONE, -1, id="no-body"),  # 9112 section 6.3, rule 7
        pytest.param([b"Content-Length: 0"], NONE, 0, id="empty-body"),
        pytest.param([b"content-length:\t5 "], LENGTH, 5, id="length"),  # rule 6
        pytest.param([b"Content-Length: 0005"], LENGTH, 5, id="leading-zeros"),
        pytest.param([b"Content-Length: " + b"9" * 18], LENGTH, 10**18 - 1, id="longest"),
        pytest.param([b"Transfer-Encoding: chunked"], CHUNKED, -1, id="chunked"),  # rule 4
        pytest.param([b"transfer-encoding: CHUNKED"], CHUNKED, -1, id="chunked-in-capitals"),
        pytest.param([b"Content_Length: 5"], NONE, -1, id="length-misspelt"),
        pytest.param([b"Content.Length: 5"], NONE, -1, id="length-misspelt-with-a-dot"),
        pytest.param([b"Transfer_Encoding: chunked"], NONE, -1, id="chunked-misspelt"),
    ],
)
def test_framing(lines: list[bytes], framing: Framing, length: int) -> None:
    """Content-Length and Transfer-Encoding determine the end of the body (RFC 9112, 6.3)."""
    head = read_request(*lines, first=b"POST / HTTP/1.1")
    assert (head.framing, head.length) == (framing, length)
    lengths = [line for line in lines if line.lower().startswith(b"content-length:")]
    assert passed_on(head) == [b"Host: h", *lengths]


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        pytest.param([b"Content-Length:"], 400, id="length-empty"),  # 9110 section 8.6
        pytest.param([b"Content-Length: +5"], 400, id="length-plus"),
        pytest.param([b"Content-Length: -5"], 400, id="length-minus"),
        pytest.param([b"Content-Length: 5 5"], 400, id="length-space"),
        pytest.param([b"Content-Length: 0x5"], 400, id="length-hex"),
        pytest.param([b"Content-Length: 5_0"], 400, id="length-underscore"),
        pytest.param([b"Content-Length: 5, 5"], 400, id="length-list"),
        pytest.param([b"Content-Length: \xb2"], 400, id="length-superscript"),
        pytest.param([b"Content-Length: " + b"1" * 19], 400, id="length-too-many-digits"),
        pytest.param([b"Content-Length: 5"] * 2, 400, id="length-twice"),
        pytest.param([b"Content-Length: 0", b"Content-Length: 5"], 400, id="length-zero-then-5"),
        pytest.param(  # 9112 section 6.1
            [b"Content-Length: 5", b"Transfer-Encoding: chunked"], 400, id="both"
        ),
        pytest.param([b"Transfer-Encoding: chunked", b"Content-Length: 0"], 400, id="both-zero"),
        pytest.param([b"Transfer-Encoding: gzip"], 501, id="coding-unknown"),
        pytest.param([b"Transfer-Encoding:"], 501, id="coding-empty"),
        pytest.param([b"Transfer-Encoding: identity"], 501, id="coding-identity"),
        pytest.param([b"Transfer-Encoding: gzip, chunked"], 501, id="coding-list"),
        pytest.param([b"Transfer-Encoding: chunked, chunked"], 501, id="chunked-twice"),
        pytest.param([b"Transfer-Encoding: chunked"] * 2, 501, id="chunked-in-two-lines"),
        pytest.param([b'Transfer-Encoding: "chunked"'], 501, id="chunked-quoted"),
        pytest.param([b"Transfer-Encoding: chunked;q=1"], 501, id="chunked-parameter"),
        pytest.param([b"Transfer-Encoding: xchunked"], 501, id="chunked-prefixed"),
    ],
)
def test_bad_framing(lines: list[bytes], status: int) -> None:
    """A head that two servers could frame differently is refused."""
    with pytest.raises(PeerError) as caught:
        read_request(*lines, first=b"POST / HTTP/1.1")
    assert caught.value.status == status


def test_transfer_encoding_in_http_1_0() -> None:
    """Transfer-Encoding in HTTP/1.0 is faulty framing (RFC 9112 section 6.1)."""
    with pytest.raises(PeerError) as caught:
        read_request(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0")
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("minor", "lines", "keeps"),
    [
        pytest.param(1, [], True, id="1.1"),  # 9112 section 9.3
        pytest.param(1, [b"Cookie: a=1"], True, id="1.1-other"),
        pytest.param(1, [b"Connection: close"], False, id="1.1-close"),
        pytest.param(1, [b"Connection: CLOSE"], False, id="1.1-close-in-capitals"),
        pytest.param(1, [b"Connection: x,\tclose ,"], False, id="1.1-close-in-a-list"),
        pytest.param(1, [b"Connection: x", b"Connection: close"], False, id="1.1-close-in-a-line"),
        pytest.param(1, [b"Connection: keep-alive, close"], False, id="1.1-both"),
        pytest.param(1, [b"Connection:"], True, id="1.1-empty"),
        pytest.param(1, [b"Connection: closed"], True, id="1.1-another-word"),
        pytest.param(1, [b"Proxy-Connection: close"], True, id="1.1-proxy-connection"),
        pytest.param(0, [], False, id="1.0"),
        pytest.param(0, [b"Accept: */*"], False, id="1.0-other"),
        pytest.param(0, [b"Connection: x"], False, id="1.0-another-word"),
        pytest.param(0, [b"Connection: Keep-Alive"], True, id="1.0-keep-alive"),
        pytest.param(0, [b"Connection: keep-alive, close"], False, id="1.0-both"),
    ],
)
def test_persistence(minor: int, lines: list[bytes], keeps: bool) -> None:  # noqa: FBT001 (a table)
    """Version and Connection decide whether the connection may serve another request."""
    assert read_request(*lines, first=b"GET / HTTP/1.%d" % minor).keep_alive is keeps


@pytest.mark.parametrize(
    ("minor", "lines", "upgrade"),
    [
        pytest.param(1, [b"Upgrade: WebSocket", b"Connection: Upgrade"], b"websocket", id="named"),
        pytest.param(1, [b"Connection: x, upgrade", b"Upgrade: h2c"], b"h2c", id="any-order"),
        pytest.param(1, [b"Upgrade: websocket"], None, id="not-named"),  # 9110 section 7.8
        pytest.param(1, [b"Upgrade: websocket", b"Connection: close"], None, id="other-named"),
        pytest.param(1, [b"Connection: upgrade"], None, id="named-alone"),
        pytest.param(0, [b"Upgrade: websocket", b"Connection: upgrade"], None, id="1.0"),
        pytest.param(0, [b"Upgrade: websocket"], None, id="1.0-not-named"),
    ],
)
def test_upgrade(minor: int, lines: list[bytes], upgrade: bytes | None) -> None:
    """Upgrade counts only if Connection names it, not in HTTP/1.0, and is not passed on."""
    head = read_request(*lines, first=b"GET / HTTP/1.%d" % minor)
    assert head.upgrade == upgrade
    assert passed_on(head) == [b"Host: h"]


@pytest.mark.parametrize(
    "name",
    sorted(
        HOP_BY_HOP
        | PATH_OVERRIDES
        | FORWARDED
        | {b"x-forwarded-user", b"connection", b"upgrade", b"x-request-id"}
        | set(IDENTITY)
    ),
)
def test_what_ends_here(name: bytes) -> None:
    """Hop-by-hop, forwarded and identity headers are never passed on, in any spelling."""
    spellings = {name, name.upper(), name.title(), *(name.replace(b"-", to) for to in OTHER_MARKS)}
    head = read_request(*(spelling + b": x" for spelling in sorted(spellings)), b"B: 1")
    assert passed_on(head) == [b"Host: h", b"B: 1"]


@pytest.mark.parametrize(
    ("named", "left"),
    [
        pytest.param(b"X-A", [b"B: 2"], id="one"),  # 9110 section 7.6.1
        pytest.param(b"x-a,,b , nothing", [], id="list"),
        pytest.param(b"close, X-A", [b"B: 2"], id="beside-close"),
        pytest.param(b"X_A", [b"B: 2"], id="underscore"),
        pytest.param(b"host", [b"X-A: 1", b"x_a: 1", b"B: 2"], id="host-stays"),
        pytest.param(b"close", [b"X-A: 1", b"x_a: 1", b"B: 2"], id="none"),
    ],
)
def test_what_connection_names_ends_here(named: bytes, left: list[bytes]) -> None:
    """A header that Connection names is not passed on, in either spelling."""
    head = read_request(b"X-A: 1", b"x_a: 1", b"B: 2", b"Connection: " + named)
    assert passed_on(head) == [b"Host: h", *left]


def test_connection_names_another_header_than_the_length() -> None:
    """Connection may name other headers if there is a body."""
    head = read_request(b"X-A: 1", b"Connection: X-A", b"Content-Length: 5")
    assert passed_on(head) == [b"Host: h", b"Content-Length: 5"]


@pytest.mark.parametrize(
    "named", [b"content-length", b"Content-Length, x", b"content_length", b"content.length"]
)
def test_connection_may_not_name_the_length(named: bytes) -> None:
    """Connection may not name Content-Length: the upstream would see two requests."""
    with pytest.raises(PeerError) as caught:
        read_request(b"Connection: " + named, b"Content-Length: 5", first=b"POST / HTTP/1.1")
    assert caught.value.status == 400
    head = read_request(b"Connection: " + named, b"Content-Length: 0")
    assert (head.framing, passed_on(head)) == (NONE, [b"Host: h"])


@settings(deadline=None)
@given(st.lists(st.sampled_from(REQUEST_LINES), max_size=6), st.sampled_from([b"1.1", b"1.0"]))
def test_the_upstream_reads_the_same_framing(lines: list[bytes], version: bytes) -> None:
    """The lines that are passed on frame the body as it was framed here."""
    try:
        head = read_request(*lines, first=b"POST / HTTP/" + version)
    except PeerError:
        return
    sent = passed_on(head)
    lengths = [line.partition(b":")[2] for line in sent if line.lower().startswith(b"content-l")]
    if head.framing is LENGTH:
        assert [int(value) for value in lengths] == [head.length]
    else:
        assert all(int(value) == 0 for value in lengths)
    names = [line.partition(b":")[0].lower().replace(b"_", b"-") for line in sent]
    assert names.count(b"host") == 1
    assert not {b"transfer-encoding", b"connection", b"upgrade", b"x-auth-user"} & set(names)
