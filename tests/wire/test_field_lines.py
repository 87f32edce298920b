"""What becomes of header lines, and what a process remembers of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.errors import PeerError
from sidecar.wire.field_lines import FieldLines, filter_trailers
from sidecar.wire.header_kinds import HeaderKind
from sidecar.wire.headers import is_token
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

MANY: Final = 5000  # more than is remembered
PLACES: Final = 64  # lines of a name
PERIOD: Final = 1024  # unknown lines of a name
LINES: Final = 4096  # of all names
NAMES: Final = 1024


@pytest.mark.parametrize("octet", range(256))
def test_octets_of_a_value(octet: int) -> None:
    """A value may have tabs and any octet except control characters (RFC 9110, 5.5)."""
    line = b"A: b%cc" % octet
    if octet == 0x09 or (octet >= 0x20 and octet != 0x7F):
        assert request_fields().of(line) == line
    else:
        with pytest.raises(PeerError) as caught:
            request_fields().of(line)
        assert caught.value.status == 400


def test_what_becomes_of_a_line() -> None:
    """A line is passed on as it is, or split for the parser, which drops some."""
    fields = request_fields()
    for _ in range(2):  # read, then remembered
        assert fields.of(b"Accept:  x ") == b"Accept:  x "
        assert fields.of(b"HOST:\th ") == (HeaderKind.HOST, b"host", b"h", b"HOST:\th ")
        dropped = (HeaderKind.DROP, b"x-auth-user", b"eve", b"X-Auth-User: eve")
        assert fields.of(b"X-Auth-User: eve") == dropped
    assert len(fields.known) == 3


@pytest.mark.parametrize("line", [b"A", b" : 1", b"", b"a b: 1", b"Host: a/b", b"A: \0"])
def test_a_malformed_line_is_refused_each_time(line: bytes) -> None:
    """What is malformed is not remembered."""
    fields = request_fields()
    for _ in range(2):
        with pytest.raises(PeerError):
            fields.of(line)
    assert not fields.known


def test_lines_that_never_come_again_push_out_no_others() -> None:
    """A name has 64 places, whatever the peer sends; other names' lines stay."""
    fields = request_fields()
    fields.of(b"Accept: */*")
    for number in range(MANY):
        assert fields.of(b"traceparent: %d" % number) == b"traceparent: %d" % number
        assert len(fields.known) <= 1 + PLACES
    assert b"Accept: */*" in fields.known


def test_the_first_lines_of_a_name_are_remembered() -> None:
    """Of the lines of one name, the first 64 are remembered; they stay while they come again."""
    fields = request_fields()
    lines = [b"Referer: https://shop.example.com/%d" % number for number in range(PLACES + 1)]
    for _ in range(PERIOD // 2):
        for line in lines[:PLACES]:
            fields.of(line)
    assert set(fields.known) == set(lines[:PLACES])
    fields.of(lines[PLACES])
    assert set(fields.known) == set(lines[:PLACES])


def test_other_lines_of_a_name_get_their_turn() -> None:
    """After 1,024 unknown lines, the next ones take the places of the lines before them."""
    fields = request_fields()
    fields.of(b"User-Agent: of last year")
    for number in range(PERIOD - 1):
        fields.of(b"User-Agent: %d" % number)
    assert b"User-Agent: of last year" in fields.known
    fields.of(b"User-Agent: of this year")
    assert set(fields.known) == {b"User-Agent: of this year"}


def test_a_peer_that_invents_names_fills_no_memory() -> None:
    """The number of names and lines is bounded, and so is the length of each."""
    fields = request_fields()
    for number in range(MANY):
        for turn in range(PLACES if number < LINES // PLACES + 1 else 1):
            fields.of(b"X-%d: %d" % (number, turn))
        fields.of(b"%b: 1" % (b"n" * (129 + number % 100)))
        assert len(fields.known) <= LINES
        assert fields.names <= NAMES
    assert max(map(len, fields.known)) < 129
    fields.of(b"A: " + b"a" * 253)
    assert b"A: " + b"a" * 253 in fields.known
    assert fields.of(b"A: " + b"a" * 254) == b"A: " + b"a" * 254
    assert max(map(len, fields.known)) == 256


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
    """The memory of the process has no line with a credential, so no dump can show one."""
    fields = make()
    assert fields.of(line) == fields.of(line)
    assert b"s3cret" not in repr(fields.known).encode()


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
    assert b"A: 1" in fields.known
    assert b"A: 1" in answers.known
    assert "s3cret" not in repr(fields.known) + repr(answers.known)


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
        return fields.of(line)
    except PeerError as error:
        return error.status, error.detail


@settings(deadline=None)
@given(st.binary(max_size=16), st.binary(max_size=16))
def test_a_line_that_passes_is_one_line(name: bytes, value: bytes) -> None:
    """A line that is passed on cannot be read as two lines or none (RFC 9112, 2.2)."""
    result = judged(request_fields(), name + b":" + value)
    if isinstance(result, bytes):
        assert not set(b"\r\n\0") & set(result)
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
