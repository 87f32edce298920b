"""The end of a body: by length, chunk by chunk, or with its connection (RFC 9112, 6 and 7)."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.errors import PeerError
from sidecar.wire.framing import Body, ChunkedBody, LengthBody, UntilCloseBody
from tests.wire.chunks import (
    NotChunkedError,
    chunked_bodies,
    cuts,
    decode,
    feed,
    next_line,
    split_at,
)
from tests.wire.readers import request_fields

BODY = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n"


def chunked(*, decoding: bool = False) -> ChunkedBody:
    """Return a chunked body as a request has it."""
    return ChunkedBody(request_fields(), decode=decoding)


@pytest.mark.parametrize(
    ("length", "pieces", "passed", "rest"),
    [
        pytest.param(5, [b"hello"], b"hello", b"", id="whole"),
        pytest.param(5, [b"he", b"ll", b"o"], b"hello", b"", id="in-pieces"),
        pytest.param(5, [b"helloGET /"], b"hello", b"GET /", id="with-the-next"),
        pytest.param(5, [b"hel", b"loGET", b" /"], b"hello", b"GET /", id="next-in-a-piece"),
        pytest.param(5, [b"hel"], b"hel", b"", id="unfinished"),
        pytest.param(0, [b"GET /"], b"", b"GET /", id="nothing"),
    ],
)
def test_length(length: int, pieces: list[bytes], passed: bytes, rest: bytes) -> None:
    """The body has exactly the stated number of octets, and none of the next message (6.2)."""
    body = LengthBody(length)
    assert body.done is (length == 0)
    assert feed(body, pieces) == (passed, rest)
    assert body.done is (len(passed) == length)
    assert body.remaining == length - len(passed)


def test_length_copies_nothing() -> None:
    """A piece inside the body, or one that ends with it, is passed on without a copy."""
    body = LengthBody(6)
    pieces = [b"abcd", b"ef"]
    assert [body.feed(piece) is piece for piece in pieces] == [True, True]
    assert body.done
    assert repr(LengthBody(6)) == "<LengthBody remaining=6>"


@settings(deadline=None)
@given(st.binary(max_size=60), st.integers(0, 70), cuts)
def test_any_length(octets: bytes, length: int, cut: list[int]) -> None:
    """However the data is split, the first `length` octets are the body."""
    body = LengthBody(length)
    passed, rest = feed(body, split_at(octets, cut))
    assert passed == octets[:length]
    if length:
        assert rest == octets[length:]
    assert body.done is (len(octets) >= length)


def test_until_close() -> None:
    """All data belongs to the body, which ends with the connection (section 6.3, rule 8)."""
    body = UntilCloseBody()
    piece = b"abc"
    assert body.feed(piece) is piece
    assert (body.done, body.rest) == (False, b"")


@pytest.mark.parametrize(
    ("received", "passed", "data"),
    [
        pytest.param(b"0\r\n\r\n", b"0\r\n\r\n", b"", id="empty"),
        pytest.param(BODY, BODY.replace(b";x=y", b""), b"hello world", id="two-chunks"),
        pytest.param(b"00\r\n\r\n", b"0\r\n\r\n", b"", id="last-chunk-00"),  # last-chunk = 1*"0"
        pytest.param(b"0;a\r\n\r\n", b"0\r\n\r\n", b"", id="last-chunk-extension"),
        pytest.param(b"A\r\n0123456789\r\n0\r\n\r\n", None, b"0123456789", id="capital-size"),
        pytest.param(b"a\r\n0123456789\r\n0\r\n\r\n", None, b"0123456789", id="small-size"),
        pytest.param(b"000001\r\nx\r\n0\r\n\r\n", None, b"x", id="leading-zeros"),
        pytest.param(b"2\r\n\r\n\r\n0\r\n\r\n", None, b"\r\n", id="crlf-as-data"),
        pytest.param(b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", None, b"0\r\n\r\n", id="end-as-data"),
        pytest.param(b"1 ;a\r\nx\r\n0\r\n\r\n", b"1\r\nx\r\n0\r\n\r\n", b"x", id="bad-white-space"),
        pytest.param(
            b'1;a="b;c" ; d\r\nx\r\n0\r\n\r\n', b"1\r\nx\r\n0\r\n\r\n", b"x", id="extensions"
        ),
        pytest.param(b"0\r\nA: 1\r\n\r\n", None, b"", id="trailer"),
        pytest.param(
            b"0\r\nContent-Length: 5\r\nA: 1\r\nX_Auth_User: eve\r\n\r\n",
            *(b"0\r\nA: 1\r\n\r\n", b""),
            id="trailers-filtered",
        ),
    ],
)
def test_chunked(received: bytes, passed: bytes | None, data: bytes) -> None:
    """A body is passed on framed or decoded, however it is split, and the rest is kept.

    Chunk extensions are hop-by-hop (RFC 9112 section 7.1.1).
    """
    expected = received if passed is None else passed
    for tail in (b"", b"G", b"GET / HTTP/1.1\r\n\r\n"):
        octets = received + tail
        for pieces in ([octets], [octets[at : at + 1] for at in range(len(octets))]):
            assert feed(chunked(), pieces) == (expected, tail)
            assert feed(chunked(decoding=True), pieces) == (data, tail)


@pytest.mark.parametrize(
    "received",
    [
        pytest.param(b"\r\n", id="no-size"),
        pytest.param(b" 5\r\n", id="space-before-size"),
        pytest.param(b"5 \r\n", id="space-after-size"),
        pytest.param(b"+5\r\n", id="plus"),
        pytest.param(b"-5\r\n", id="minus"),
        pytest.param(b"0x5\r\n", id="0x"),
        pytest.param(b"5_0\r\n", id="underscore"),
        pytest.param(b"g\r\n", id="no-digit"),
        pytest.param(b"\xb2\r\n", id="superscript"),
        pytest.param(b"1" * 16 + b"\r\n", id="too-many-digits"),
        pytest.param(b"0" * 16 + b"\r\n", id="too-many-zeros"),
        pytest.param(b"5\nhello\r\n", id="lf-after-size"),
        pytest.param(b"5\r\rhello\r\n", id="cr-cr"),
        pytest.param(b"5;a\nb\r\n", id="lf-in-extension"),  # aiohttp CVE-2024-52304
        pytest.param(b"5;a\rb\r\n", id="cr-in-extension"),
        pytest.param(b"5;a\0\r\n", id="nul-in-extension"),
        pytest.param(b"5;\xe9\r\n", id="extension-not-ascii"),
        pytest.param(b"5,a\r\n", id="comma"),
        pytest.param(b"5;" + b"a" * 1024 + b"\r\n", id="extension-too-long"),
        pytest.param(b"1\r\nxy", id="chunk-too-long"),
        pytest.param(b"1\r\nx\n", id="lf-after-data"),
        pytest.param(b"1\r\nx\rx", id="cr-after-data"),
        pytest.param(b"1\r\nx0\r\n\r\n", id="no-end-of-chunk"),
        pytest.param(b"0\r\nA\r\n\r\n", id="trailer-without-colon"),
        pytest.param(b"0\r\nA : 1\r\n\r\n", id="trailer-space"),
        pytest.param(b"0\r\nA: 1\n\r\n\r\n", id="trailer-lf"),
        pytest.param(b"0\r\nA: \0\r\n\r\n", id="trailer-nul"),
        pytest.param(b"0\r\nA: " + b"a" * 8192, id="trailers-too-long"),
        pytest.param(b"0\r\n" + b"A: 1\r\n" * 1400, id="too-many-trailers"),
    ],
)
def test_malformed_chunks(received: bytes) -> None:
    """Bad framing is refused with 400, however it is split, and is never passed on (7.1)."""
    for size in (len(received), 1):
        pieces = [received[at : at + size] for at in range(0, len(received), size)]
        for decoding in (False, True):
            body = chunked(decoding=decoding)
            status, passed = until_refused(body, pieces)
            assert status == 400
            assert not body.done
            assert passed in ({b"", b"x"} if decoding else {b"", b"1\r\nx"})


def until_refused(body: Body, pieces: list[bytes]) -> tuple[int, bytes]:
    """Return the status of the refusal (0 for none), and what was passed on before it."""
    passed = b""
    for piece in pieces:
        try:
            passed += body.feed(piece)
        except PeerError as error:
            return error.status, passed
    return 0, passed


@pytest.mark.parametrize(
    "received",
    [
        pytest.param(b"5;" + b"a" * 1021, id="size-line"),
        pytest.param(b"5;" + b"a" * 1020 + b"\r", id="size-line-and-cr"),
        pytest.param(b"0\r\nA: " + b"a" * 8100, id="trailers"),
        pytest.param(b"0\r\n\r", id="end-half"),
        pytest.param(b"0\r\nA: 1\r\n\r", id="end-of-trailers-half"),
    ],
)
def test_unchecked_framing_is_held_back(received: bytes) -> None:
    """An incomplete line is held back up to a limit, and passed on when complete."""
    body = chunked()
    assert body.feed(received) == b""
    assert not body.done


@pytest.mark.parametrize(
    ("start", "end", "longest"),
    [
        pytest.param(b"0;", b"\r\n\r\n", 1024 + 2, id="size-line"),
        pytest.param(b"0\r\nA:", b"\r\n\r\n", 3 + 8192, id="trailers"),
    ],
)
def test_how_long_framing_may_be(start: bytes, end: bytes, longest: int) -> None:
    """A size line may have 1,024 octets, and trailers 8,192, including their ends."""
    fitting = start + b"a" * (longest - len(start) - len(end)) + end
    body = chunked(decoding=True)
    assert body.feed(fitting) == b""
    assert body.done
    for pieces in ([fitting.replace(b"a", b"aa", 1)], [fitting[:-4] + b"a", end]):
        assert until_refused(chunked(), pieces)[0] == 400


def test_chunk_data_is_not_held_back() -> None:
    """The data of a chunk is passed on as it arrives, without a copy where possible."""
    body = chunked()
    assert body.feed(b"fffff\r\nab") == b"fffff\r\nab"
    piece = b"c" * 1000
    assert body.feed(piece) is piece
    assert repr(body) == "<ChunkedBody DATA remaining=1047573 done=False>"
    assert chunked(decoding=True).feed(b"5\r\nab") == b"ab"


@settings(deadline=None)
@given(chunked_bodies(), st.binary(max_size=10), cuts)
@example(b"5\r\nhello\r\n0\r\n\r\n", b"", [])
def test_chunked_is_what_the_grammar_says(received: bytes, tail: bytes, cut: list[int]) -> None:
    """However it is split, a valid body gives the reference's data, trailers and rest."""
    expected = decode(received + tail)
    pieces = split_at(received + tail, cut)
    assert feed(chunked(decoding=True), pieces) == (expected.data, tail)
    passed, rest = feed(chunked(), pieces)
    again = decode(passed)
    assert (again.data, again.sizes) == (expected.data, expected.sizes)
    assert (rest, again.rest) == (tail, b"")
    assert set(again.trailers) <= set(expected.trailers)
    assert b";" not in next_line(passed)[0]


@settings(deadline=None)
@given(chunked_bodies(), cuts)
def test_output_is_left_alone_the_next_time(received: bytes, cut: list[int]) -> None:
    """A second sidecar behind the first one changes nothing more."""
    passed, _ = feed(chunked(), [received])
    assert feed(chunked(), split_at(passed, cut)) == (passed, b"")


noise = st.lists(
    st.sampled_from([b"\r\n", b"\r", b"\n", b"0", b"1", b"2\r\nab\r\n", b";a", b" ", b"A: 1"])
    | st.binary(min_size=1, max_size=3),
    max_size=12,
).map(b"".join)


@settings(deadline=None)
@given(noise, cuts)
def test_nothing_else_is_raised(octets: bytes, cut: list[int]) -> None:
    """Any octets give the reference's result, are incomplete or are refused, however split."""
    outcomes = []
    for pieces in ([octets], split_at(octets, cut)):
        body, passed = chunked(), b""
        try:
            passed, _ = feed(body, pieces)
        except PeerError:
            outcomes.append("refused")
            continue
        outcomes.append("done" if body.done else "open")
        if body.done:
            assert decode(passed).data == decode(octets).data
    assert outcomes[0] == outcomes[-1]
    if outcomes[0] != "done":
        try:
            whole = decode(octets)
        except NotChunkedError:
            return
        assert outcomes[0] == "refused"  # a trailer that is no header line
        assert whole.trailers


def test_all_bodies_are_bodies() -> None:
    """All three classes implement the `Body` protocol."""
    bodies: list[Body] = [LengthBody(1), UntilCloseBody(), chunked()]
    assert [body.done for body in bodies] == [False] * 3
