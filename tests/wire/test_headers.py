"""The kinds of headers, and the caches of names and lines that a process keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.errors import PeerError
from sidecar.wire.headers import (
    FieldLines,
    HeaderKind,
    HeaderKinds,
    filter_trailers,
    fold,
    is_token,
    joined,
    parse_length,
    parse_tokens,
    without,
)
from tests.wire.readers import (
    REQUEST_LINES,
    RESPONSE_LINES,
    raw_head,
    request_fields,
    request_parser,
    response_fields,
    response_parser,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MANY: Final = 5000  # more than the cache keeps
ROOM: Final = 2048  # the size of the cache


@pytest.mark.parametrize(
    ("name", "request_kind", "response_kind"),
    [
        pytest.param(b"Accept", HeaderKind.PASS, HeaderKind.PASS, id="any"),
        pytest.param(b"aCCept", HeaderKind.PASS, HeaderKind.PASS, id="any-case"),
        pytest.param(b"X_Y", HeaderKind.PASS, HeaderKind.PASS, id="any-underscore"),
        pytest.param(b"Host", HeaderKind.HOST, HeaderKind.PASS, id="host"),
        pytest.param(b"HOST", HeaderKind.HOST, HeaderKind.PASS, id="host-case"),
        pytest.param(b"Cookie", HeaderKind.COOKIE, HeaderKind.PASS, id="cookie"),
        pytest.param(b"Set-Cookie", HeaderKind.PASS, HeaderKind.PASS, id="set-cookie"),
        pytest.param(
            b"Content-Length", HeaderKind.CONTENT_LENGTH, HeaderKind.CONTENT_LENGTH, id="length"
        ),
        pytest.param(b"Content_Length", HeaderKind.DROP, HeaderKind.DROP, id="length-underscore"),
        pytest.param(
            b"Transfer_Encoding", HeaderKind.DROP, HeaderKind.DROP, id="coding-underscore"
        ),
        pytest.param(b"Connection", HeaderKind.CONNECTION, HeaderKind.CONNECTION, id="connection"),
        pytest.param(b"Keep-Alive", HeaderKind.DROP, HeaderKind.DROP, id="keep-alive"),
        pytest.param(b"KEEP_alive", HeaderKind.DROP, HeaderKind.DROP, id="keep-alive-underscore"),
        pytest.param(
            b"Proxy-Authenticate", HeaderKind.DROP, HeaderKind.DROP, id="proxy-authenticate"
        ),
        pytest.param(b"X-Request-Id", HeaderKind.REQUEST_ID, HeaderKind.DROP, id="request-id"),
        pytest.param(b"X_Request_Id", HeaderKind.DROP, HeaderKind.DROP, id="request-id-underscore"),
        pytest.param(b"X-Auth-User", HeaderKind.DROP, HeaderKind.PASS, id="identity"),
        pytest.param(b"x_AUTH-user", HeaderKind.DROP, HeaderKind.PASS, id="identity-underscore"),
        pytest.param(b"X-Real-IP", HeaderKind.FORWARDED, HeaderKind.PASS, id="real-ip"),
        pytest.param(b"Forwarded", HeaderKind.FORWARDED, HeaderKind.PASS, id="forwarded"),
        pytest.param(b"X-Forwarded-For", HeaderKind.FORWARDED, HeaderKind.PASS, id="forwarded-for"),
        pytest.param(
            b"X_Forwarded_For", HeaderKind.DROP, HeaderKind.PASS, id="forwarded-underscore"
        ),
        pytest.param(b"X-Forwarded-Uri", HeaderKind.FORWARDED, HeaderKind.PASS, id="forwarded-uri"),
        pytest.param(
            b"X-Forwarded_Uri", HeaderKind.DROP, HeaderKind.PASS, id="forwarded-uri-underscore"
        ),
        pytest.param(
            b"X-Forwarded-Server", HeaderKind.DROP, HeaderKind.PASS, id="forwarded-unknown"
        ),
        pytest.param(
            b"X_FORWARDED_new", HeaderKind.DROP, HeaderKind.PASS, id="forwarded-unknown-underscore"
        ),
        pytest.param(b"X-Original-URL", HeaderKind.DROP, HeaderKind.PASS, id="path-override"),
        pytest.param(b"X-Original-URI", HeaderKind.FORWARDED, HeaderKind.PASS, id="original-uri"),
    ],
)
def test_kinds(name: bytes, request_kind: HeaderKind, response_kind: HeaderKind) -> None:
    """Names are folded, but a header is read only in its exact spelling, regardless of case."""
    requests, responses = HeaderKinds.of_requests([b"X-Auth-User"]), HeaderKinds.of_responses()
    for _ in range(2):  # judged, then looked up
        assert requests[name] is request_kind
        assert responses[name] is response_kind


@pytest.mark.parametrize("name", [b"", b" ", b"a b", b"a:", b"a\0", b"\xe9", b"a\n", b"a/b"])
def test_a_name_is_a_token(name: bytes) -> None:
    """A name that is not a token is refused each time, and not cached (RFC 9110, 5.6.2)."""
    kinds = HeaderKinds.of_responses()
    for _ in range(2):
        with pytest.raises(PeerError):
            kinds[name]
    assert not kinds


@settings(deadline=None)
@given(st.binary(max_size=8))
def test_is_token(value: bytes) -> None:
    """A token has the characters of RFC 9110 section 5.6.2."""
    tchar = set(b"!#$%&'*+-.^_`|~0123456789")
    tchar |= set(range(ord("a"), ord("z") + 1)) | set(range(ord("A"), ord("Z") + 1))
    assert is_token(value) is (bool(value) and set(value) <= tchar)


@pytest.mark.parametrize("octet", range(256))
def test_octets_of_a_value(octet: int) -> None:
    """A value may have tabs and any octet except control characters (RFC 9110, 5.5)."""
    line = b"A: b%cc" % octet
    if octet == 0x09 or (octet >= 0x20 and octet != 0x7F):
        assert request_fields()[line] == line + b"\r\n"
    else:
        with pytest.raises(PeerError) as caught:
            request_fields()[line]
        assert caught.value.status == 400


def test_what_becomes_of_a_line() -> None:
    """A line is passed on, dropped, or split for the parser; the result is cached."""
    fields = request_fields()
    assert fields[b"Accept:  x "] == b"Accept:  x \r\n"
    assert fields[b"X-Auth-User: eve"] == b""
    assert fields[b"host:\th "] == (HeaderKind.HOST, b"host", b"h", b"host:\th \r\n")
    assert len(fields) == 3
    assert len(fields.kinds) == 3


def test_names_are_bounded() -> None:
    """A peer that invents names cannot make the cache large, in number or in size."""
    kinds = HeaderKinds.of_responses()
    for number in range(MANY):
        assert kinds[b"X-%d" % number] is HeaderKind.PASS
        assert len(kinds) <= ROOM
    assert kinds[b"x" * 257] is kinds[b"x" * 256] is HeaderKind.PASS
    assert max(map(len, kinds)) == 256


def test_lines_are_bounded() -> None:
    """A peer that invents lines cannot make the caches of lines and names large."""
    fields = request_fields()
    for number in range(MANY):
        fields[b"X-%d: %d" % (number, number)]
        fields[b"%b: 1" % (b"n" * (300 + number))]
        assert len(fields) <= ROOM
        assert len(fields.kinds) <= ROOM
    fields[b"A: " + b"a" * 253]
    assert b"A: " + b"a" * 253 in fields
    assert fields[b"A: " + b"a" * 254] == b"A: " + b"a" * 254 + b"\r\n"
    assert max(map(len, fields)) <= 256
    assert max(map(len, fields.kinds)) <= 256


@pytest.mark.parametrize(
    ("make", "line"),
    [
        pytest.param(request_fields, b"Authorization: Bearer s3cret", id="authorization"),
        pytest.param(request_fields, b"AUTHORIZATION: Bearer s3cret", id="capitals"),
        pytest.param(request_fields, b"Cookie: __Host-session=s3cret", id="cookie"),
        pytest.param(request_fields, b"Proxy-Authorization: Basic s3cret", id="proxy"),
        pytest.param(request_fields, b"proxy_authorization: Basic s3cret", id="proxy-underscore"),
        pytest.param(response_fields, b"Set-Cookie: __Host-session=s3cret", id="set-cookie"),
        pytest.param(response_fields, b"set_cookie: a=s3cret", id="set-cookie-underscore"),
    ],
)
def test_credentials_are_not_remembered(make: Callable[[], FieldLines], line: bytes) -> None:
    """The cache of the process has no line with a credential, so no dump can show one."""
    fields = make()
    assert fields[line] == fields[line]
    assert not any(b"s3cret" in bytes(key) for key in fields)
    assert b"s3cret" not in repr(dict(fields)).encode()


def test_a_whole_request_leaves_no_credential_behind() -> None:
    """A parser that read credentials leaves none behind after its connection."""
    fields = request_fields()
    request_parser(fields).parse(
        raw_head(
            b"GET / HTTP/1.1",
            *(b"Host: h", b"Authorization: Bearer s3cret", b"authorization: Bearer s3cret"),
            *(b"Cookie: a=s3cret", b"Proxy-Authorization: Basic s3cret", b"A: 1"),
        )
    )
    answers = response_fields()
    response_parser(answers).parse(
        raw_head(b"HTTP/1.1 200 OK", b"Set-Cookie: s3cret", b"A: 1"), to_head=False
    )
    filter_trailers(b"Set-Cookie: s3cret\r\nAuthorization: s3cret\r\nA: 1\r\n", fields)
    assert b"A: 1" in fields
    assert b"A: 1" in answers
    assert "s3cret" not in repr(dict(fields)) + repr(dict(answers))


@settings(deadline=None)
@given(st.lists(st.sampled_from(REQUEST_LINES) | st.binary(max_size=12), max_size=20))
def test_a_remembered_line_is_as_a_fresh_one(lines: list[bytes]) -> None:
    """A request line gives the same result whatever was parsed before."""
    used = request_fields()
    for line in lines:
        assert judged(used, line) == judged(request_fields(), line)


@settings(deadline=None)
@given(st.lists(st.sampled_from(RESPONSE_LINES) | st.binary(max_size=12), max_size=20))
def test_a_remembered_response_line_is_as_a_fresh_one(lines: list[bytes]) -> None:
    """A response line gives the same result whatever was parsed before."""
    used = response_fields()
    for line in lines:
        assert judged(used, line) == judged(response_fields(), line)


def judged(fields: FieldLines, line: bytes) -> object:
    """Return the result for a line."""
    try:
        return fields[line]
    except PeerError as error:
        return error.status, error.detail


@settings(deadline=None)
@given(st.binary(max_size=16), st.binary(max_size=16))
def test_a_line_that_passes_is_one_line(name: bytes, value: bytes) -> None:
    """A line that is passed on cannot be read as two lines or none (RFC 9112, 2.2)."""
    result = judged(request_fields(), name + b":" + value)
    if isinstance(result, bytes) and result:
        assert result.endswith(b"\r\n")
        assert not set(b"\r\n\0") & set(result[:-2])
        assert is_token(result.partition(b":")[0])


@pytest.mark.parametrize(
    ("received", "kept"),
    [
        pytest.param(b"A: 1\r\nB: 2\r\n", b"A: 1\r\nB: 2\r\n", id="all"),
        pytest.param(b"", b"", id="none"),
        pytest.param(b"Content-Length: 5\r\nA: 1\r\n", b"A: 1\r\n", id="framing"),
        pytest.param(b"Transfer-Encoding: chunked\r\n", b"", id="coding"),
        pytest.param(b"Host: h\r\nAuthorization: x\r\nCookie: x\r\n", b"", id="request-fields"),
        pytest.param(b"Keep-Alive: 5\r\nConnection: a\r\n", b"", id="hop-by-hop"),
        pytest.param(b"X_Auth_User: eve\r\nX-Forwarded-For: x\r\n", b"", id="ours-to-send"),
        pytest.param(b"Trailer: A\r\nVia: 1.1 x\r\nSet_Cookie: a=1\r\n", b"", id="not-in-trailers"),
    ],
)
def test_trailers(received: bytes, kept: bytes) -> None:
    """Trailers that frame, route or authenticate are dropped (RFC 9110 section 6.5.1)."""
    assert filter_trailers(received, request_fields()) == kept


@pytest.mark.parametrize("section", [b"A\r\n", b"A : 1\r\n", b" a: 1\r\n", b"A: \0\r\n", b"\r\n"])
def test_malformed_trailers(section: bytes) -> None:
    """A malformed trailer line is refused (RFC 9112 section 7.1.2)."""
    with pytest.raises(PeerError):
        filter_trailers(section, request_fields())


@pytest.mark.parametrize(
    ("value", "tokens"),
    [
        pytest.param(b"", [], id="empty"),
        pytest.param(b"close", [b"close"], id="one"),
        pytest.param(b"Keep-Alive,\tUPGRADE ", [b"keep-alive", b"upgrade"], id="two"),
        pytest.param(b",, a ,", [b"a"], id="empty-members"),  # 9110 section 5.6.1.2
        pytest.param(b"a b", [b"a b"], id="no-token"),
    ],
)
def test_tokens(value: bytes, tokens: list[bytes]) -> None:
    """A comma-separated list is read in lower case."""
    assert parse_tokens(value) == set(tokens)


def test_small_words() -> None:
    """Lists are joined, lines are left out and names are folded."""
    assert joined(None, b", ", b"a") == b"a"
    assert joined(b"a", b", ", b"b") == b"a, b"
    assert fold(b"X_Ab-C") == b"x-ab-c"
    lines = [b"A: 1\r\n", b"", b"b_c: 2\r\n"]
    assert without(lines, frozenset({b"b-c"})) == lines[:2]


@settings(deadline=None)
@given(st.integers(0, 10**18 - 1))
def test_any_length(length: int) -> None:
    """Decimal digits are parsed as the number that they represent."""
    assert parse_length(b"%d" % length) == length
