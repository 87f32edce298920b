"""The head that a connection keeps: using it again gives the same result as parsing anew."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.errors import PeerError, UpstreamBroken
from sidecar.wire.target import TargetParser
from tests.wire.readers import (
    HeadMemory,
    content,
    raw_head,
    request_fields,
    request_heads,
    request_parser,
    response_fields,
    response_heads,
    response_parser,
)

if TYPE_CHECKING:
    from sidecar.wire.requests import RequestParser
    from sidecar.wire.responses import ResponseParser

GET: Final = b"GET / HTTP/1.1"
BEARER: Final = raw_head(GET, b"Host: h", b"Authorization: Bearer aaa")


def request_reading(parser: RequestParser, raw: bytes) -> object:
    """Return everything observable about how a parser reads a request."""
    try:
        return content(parser.parse(raw))
    except PeerError as error:
        return error.status, error.detail


def response_reading(parser: ResponseParser, raw: bytes, *, to_head: bool) -> object:
    """Return everything observable about how a parser reads a response."""
    try:
        return content(parser.parse(raw, to_head=to_head))
    except UpstreamBroken as error:
        return str(error)


# Few sections and many first lines, so that the same section often comes again.
few_sections = st.lists(request_heads, min_size=1, max_size=2).flatmap(
    lambda some: st.lists(
        st.builds(
            lambda line, raw: line + raw[raw.find(b"\r\n") :],
            st.sampled_from([GET, b"POST /a?b HTTP/1.1", b"GET http://h/ HTTP/1.1"])
            | st.sampled_from([b"OPTIONS * HTTP/1.1", b"GET / HTTP/1.0", b"GET /.. HTTP/1.1"]),
            st.sampled_from(some),
        ),
        min_size=2,
        max_size=6,
    )
)


@settings(deadline=None)
@given(st.lists(request_heads, max_size=6) | few_sections)
def test_a_used_request_parser_reads_as_a_fresh_one(raws: list[bytes]) -> None:
    """A request gives the same result whatever the connection or process parsed before."""
    fields, paths = request_fields(), TargetParser()
    used = request_parser(fields, paths)
    for raw in raws:
        expected = request_reading(request_parser(), raw)
        assert request_reading(used, raw) == expected
        assert request_reading(request_parser(fields, paths), raw) == expected


@settings(deadline=None)
@given(
    st.lists(response_heads, min_size=1, max_size=3).flatmap(
        lambda some: st.lists(st.tuples(st.sampled_from(some), st.booleans()), max_size=6)
    )
)
def test_a_used_response_parser_reads_as_a_fresh_one(raws: list[tuple[bytes, bool]]) -> None:
    """A response gives the same result whatever was parsed before, also for HEAD requests."""
    fields = response_fields()
    used = response_parser(fields)
    for raw, to_head in raws:
        expected = response_reading(response_parser(), raw, to_head=to_head)
        assert response_reading(used, raw, to_head=to_head) == expected


def test_the_same_section_gives_the_same_head() -> None:
    """The same header section gives the same head object with a new request line."""
    parser = request_parser()
    first = parser.parse(BEARER)
    first.remembered = mark = object()
    second = parser.parse(BEARER.replace(b"GET /", b"POST /b?c"))
    assert second is first
    assert (second.method, second.target, second.path) == (b"POST", b"/b?c", "/b")
    assert second.remembered is mark


def test_a_body_behind_the_same_section_changes_nothing() -> None:
    """A chunked body also ends with an empty line; the section before it is recognised."""
    parser = request_parser()
    head = raw_head(b"POST / HTTP/1.1", b"Host: h", b"Transfer-Encoding: chunked")
    first = parser.parse(head + b"5\r\nhello\r\n0\r\n\r\n")
    assert parser.parse(head + b"4\r\n\r\n\r\n\r\n0\r\n\r\n") is first
    assert parser.taken == len(head)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(BEARER.replace(b"aaa", b"aab"), id="token-of-the-same-length"),
        pytest.param(BEARER.replace(b"aaa", b"Aaa"), id="token-in-another-case"),
        pytest.param(BEARER.replace(b"Host: h", b"Host: i"), id="host-of-the-same-length"),
        pytest.param(BEARER.replace(b"Host: h", b"host: h"), id="name-in-another-case"),
        pytest.param(BEARER.replace(b"aaa", b"aaa "), id="longer"),
        pytest.param(BEARER.replace(b"Bearer aaa", b"Bearer aa"), id="shorter"),
        pytest.param(BEARER[:-2] + b"A: 1\r\n\r\n", id="one-line-more"),
        pytest.param(raw_head(GET, b"Host: h"), id="one-line-less"),
        pytest.param(BEARER.replace(b"1.1", b"1.0"), id="http-1.0"),
        pytest.param(raw_head(GET, b"Authorization: Bearer aaa", b"Host: h"), id="another-order"),
    ],
)
def test_another_section_is_read_anew(other: bytes) -> None:
    """A section that differs in one octet is parsed anew, even at the same length."""
    parser = request_parser()
    first = parser.parse(BEARER)
    first.remembered = object()
    before = content(first)
    second = parser.parse(other)
    assert second is not first
    same = second.authorization == first.authorization  # `remembered` is the same as well
    assert second.remembered is (first.remembered if same else None)
    second.remembered = None
    assert content(second) == content(request_parser().parse(other))
    assert content(first) == before  # the old head is not modified


@settings(deadline=None)
@given(st.integers(0, len(BEARER) - 5), st.binary(min_size=1, max_size=1))
def test_any_octet_counts(at: int, octet: bytes) -> None:
    """A head of equal length that differs anywhere gives what a new parser gives."""
    other = BEARER[:at] + octet + BEARER[at + 1 :]
    if b"\r\n\r\n" in other[:-4]:
        return
    parser = request_parser()
    parser.parse(BEARER)
    assert request_reading(parser, other) == request_reading(request_parser(), other)
    assert content(parser.parse(BEARER)) == content(request_parser().parse(BEARER))


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(BEARER.replace(b"GET /", b"GET http://H/"), id="absolute-form"),
        pytest.param(BEARER.replace(b"GET /", b"OPTIONS *"), id="asterisk-form"),
        pytest.param(BEARER.replace(b"1.1", b"1.0"), id="http-1.0"),
        pytest.param(BEARER.replace(b"GET /", b"GET http://other/"), id="refused-authority"),
        pytest.param(BEARER.replace(b"GET /", b"GET /../"), id="refused-path"),
        pytest.param(BEARER.replace(b"GET /", b"G@T /"), id="refused-method"),
        pytest.param(BEARER.replace(b"Host: h", b"Host: ,,:"), id="refused-host"),
        pytest.param(raw_head(GET, b"Host: h", b"Content-Length: 5"), id="with-a-body"),
    ],
)
def test_what_comes_between_leaves_nothing_behind(between: bytes) -> None:
    """A special or refused request line has no effect on the next head."""
    parser = request_parser()
    parser.parse(BEARER)
    request_reading(parser, between)
    assert content(parser.parse(BEARER)) == content(request_parser().parse(BEARER))


def test_of_http_1_0_nothing_is_kept() -> None:
    """A head of HTTP/1.0 is not kept, because its lines have another meaning there."""
    parser = request_parser()
    old = BEARER.replace(b"1.1", b"1.0")
    assert parser.parse(old) is not parser.parse(old)
    assert parser.parse(BEARER).keep_alive


@pytest.mark.parametrize(("length", "kept"), [(8192, True), (8193, False)], ids=["fits", "over"])
def test_a_long_section_is_not_kept(length: int, kept: bool) -> None:  # noqa: FBT001 (a table)
    """A long section is parsed each time, which limits the memory of an idle connection."""
    rest = len(raw_head(b"", b"Host: h", b"A: "))
    raw = raw_head(GET, b"Host: h", b"A: " + b"a" * (length - rest))
    parser = request_parser()
    first = parser.parse(raw)
    assert (parser.parse(raw) is first) is kept
    assert (len(repr(parser)) > len("<RequestParser last=<RequestHead   NONE>>")) is kept


def test_the_memory_knows_of_the_longest_section() -> None:
    """Only a section longer than those before is told: heads that change cost nothing."""
    memory = HeadMemory()
    parser = request_parser(memory=memory)
    for length in (10, 10, 5, 30, 20):
        parser.parse(raw_head(GET, b"Host: h", b"A: " + b"a" * length))
    parser.parse(BEARER.replace(b"1.1", b"1.0"))
    empty = len(raw_head(b"", b"Host: h", b"A: "))
    assert memory.told == [5 * (empty + 10), 5 * (empty + 30)]


def test_a_parser_without_room_remembers_nothing() -> None:
    """Such a parser keeps no octet of a head, and reads the next one as if it were the first."""
    memory = HeadMemory(full=True)
    parser = request_parser(memory=memory)
    first = parser.parse(BEARER)
    assert parser.unused
    second = parser.parse(BEARER)
    assert second is not first
    assert content(second) == content(first)
    assert len(memory.told) == 2
    memory.full = False
    assert parser.parse(BEARER) is parser.parse(BEARER)
    parser.give_up()
    assert parser.unused


def test_a_response_head_is_used_again() -> None:
    """A response head that repeats is parsed once."""
    raw = raw_head(b"HTTP/1.1 200 OK", b"Content-Length: 5")
    parser = response_parser()
    first = parser.parse(raw, to_head=False)
    assert parser.parse(raw, to_head=False) is first
    assert parser.parse(raw, to_head=True) is not first
    assert parser.parse(raw, to_head=False) is not first
    assert repr(parser) == "<ResponseParser last=<ResponseHead 200 LENGTH>>"


def test_a_fault_leaves_the_memory_as_it_was() -> None:
    """A refused response is refused again, and the last valid head is still kept."""
    parser = response_parser()
    good = raw_head(b"HTTP/1.1 200 OK", b"Content-Length: 5")
    bad = raw_head(b"HTTP/1.1 200 OK", b"Content-Length: x")
    first = parser.parse(good, to_head=False)
    for _ in range(2):
        with pytest.raises(UpstreamBroken):
            parser.parse(bad, to_head=False)
    assert parser.parse(good, to_head=False) is first


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        pytest.param([b"Authorization: Bearer aaa", b"X-Trace: 2"], True, id="another-line"),
        pytest.param([b"X-Trace: 2", b"authorization:  Bearer aaa "], True, id="another-spelling"),
        pytest.param([b"Authorization: Bearer aab", b"X-Trace: 1"], False, id="another-token"),
        pytest.param([b"Authorization: Bearer aaa", b"Cookie: a=b"], False, id="a-cookie-too"),
        pytest.param([b"X-Trace: 2"], False, id="no-token"),
        pytest.param([b"Authorization: Bearer aaa"] * 2, False, id="twice"),
        pytest.param(
            [b"Authorization: Bearer aaa", b"Origin: a", b"Origin: a"], False, id="origins"
        ),
    ],
)
def test_what_was_made_of_credentials_goes_with_them(lines: list[bytes], kept: bool) -> None:  # noqa: FBT001 (a table)
    """`remembered` is copied to a head whose credential headers are the same."""
    parser = request_parser()
    first = parser.parse(raw_head(GET, b"Host: h", b"Authorization: Bearer aaa", b"X-Trace: 1"))
    first.remembered = judged = object()
    head = parser.parse(raw_head(GET, b"Host: h", *lines))
    assert head is not first
    assert head.remembered is (judged if kept else None)
    fresh = request_parser().parse(raw_head(GET, b"Host: h", *lines))
    assert head.authorization == fresh.authorization


def test_heads_share_no_state() -> None:
    """A message's attributes do not change the defaults on the class."""
    before = copy.deepcopy(content(request_parser().parse(BEARER)))
    parser = request_parser()
    parser.parse(
        raw_head(
            b"POST / HTTP/1.1",
            *(b"Host: h", b"X-Forwarded-For: x", b"Origin: a", b"Origin: b", b"Cookie: a"),
            *(b"Transfer-Encoding: chunked", b"Connection: close", b"Expect: 100-continue"),
        )
    )
    assert content(request_parser().parse(BEARER)) == before
