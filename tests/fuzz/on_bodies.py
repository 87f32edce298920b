"""Chunked bodies in any pieces: the sidecar and the next reader find the same body."""

from __future__ import annotations

import h11

from sidecar.errors import PeerError
from sidecar.wire.framing import Body, ChunkedBody
from tests.fuzz.second_reader import ROOM
from tests.fuzz.targets import cut
from tests.wire import chunks
from tests.wire.readers import request_fields

HEAD = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


def check(data: bytes) -> None:
    """Read the body whole and in pieces, with its framing and without."""
    framed = agreed(data, decode=False)
    content = agreed(data, decode=True)
    if framed is None or content is None:
        assert framed is content
        return
    passed, rest, done = framed
    decoded, rest_decoded, done_decoded = content
    assert (rest, done) == (rest_decoded, done_decoded)
    if not done:
        assert rest == b""
        return
    assert data.endswith(rest)
    # The sidecar, an independent decoder and h11 must agree on the body.
    assert chunks.decode(data).data == decoded
    assert chunks.decode(passed).data == decoded
    assert read_by_h11(passed) == decoded
    assert agreed(passed, decode=False) == (passed, b"", True), "not relayed unchanged"


def agreed(data: bytes, *, decode: bool) -> tuple[bytes, bytes, bool] | None:
    """The relayed octets, the rest, and whether the body has ended; None if it is refused.

    Asserts that reading in pieces gives the same result.
    """
    whole = read([data] if data else [], decode=decode)
    assert read(cut(data), decode=decode) == whole
    return whole


def read(pieces: list[bytes], *, decode: bool) -> tuple[bytes, bytes, bool] | None:
    """The relayed octets, the rest, and whether the body has ended, when read in these pieces."""
    body: Body = ChunkedBody(request_fields(), decode=decode)
    try:
        passed, rest = chunks.feed(body, pieces)
    except PeerError as error:
        assert error.status == 400
        return None
    return passed, rest, body.done


def read_by_h11(passed: bytes) -> bytes:
    """The body that h11 finds in the relayed octets, after which nothing may follow."""
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=ROOM)
    reader.receive_data(HEAD + passed)
    assert isinstance(reader.next_event(), h11.Request)
    found = b""
    while isinstance(event := reader.next_event(), h11.Data):
        found += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage), event
    assert reader.trailing_data == (b"", False)
    return found
