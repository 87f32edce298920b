"""Request heads: earlier heads do not change the verdict, and all readers agree on the meaning.

Input: one head after another, as on one connection.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote_to_bytes

import h11

from sidecar.errors import PeerError
from sidecar.wire.head import HEAD_END, Framing, RequestHead
from sidecar.wire.headers import fold
from tests.fuzz.second_reader import ROOM
from tests.wire.readers import IDENTITY, content, request_fields, request_parser

# RFC 9110 sections 7.6.1 and 7.8, RFC 9112 section 6.1: not relayed, or written anew.
ENDS_HERE: Final = frozenset(
    (
        *(b"connection", b"transfer-encoding", b"upgrade", b"keep-alive", b"te"),
        *(b"proxy-connection", b"proxy-authorization", b"proxy-authenticate"),
        *map(fold, IDENTITY),
    )
)
CREDENTIALS: Final = {
    "authorization": b"authorization",
    "cookie": b"cookie",
    "origin": b"origin",
    "fetch_site": b"sec-fetch-site",
}


def check(data: bytes) -> None:
    """Read the heads with one parser, and each head with a new parser."""
    parser = request_parser()
    while (end := data.find(HEAD_END)) >= 0:
        raw, data = data[: end + 4], data[end + 4 :]
        alone = read(raw)
        try:
            head = parser.parse(raw)
        except PeerError as error:
            assert isinstance(alone, tuple), "accepted alone, but refused after others"
            assert (error.status, error.detail) == alone
            return  # nothing more is read from such a connection
        assert isinstance(alone, RequestHead), f"refused alone, but accepted after others: {alone}"
        assert content(head) == content(alone)
        check_accepted(raw, head)


def read(raw: bytes) -> RequestHead | tuple[int, str]:
    """The head as a new connection reads it, or the status and detail of the refusal."""
    try:
        return request_parser().parse(raw)
    except PeerError as error:
        assert error.status in {400, 405, 431, 501, 505}
        assert error.detail.isascii()
        assert error.detail.isprintable()
        return error.status, error.detail


def check_accepted(raw: bytes, head: RequestHead) -> None:
    """Check that another reader understands the relayed head as the sidecar did."""
    sent = serialize(head)
    if head.host:  # HTTP/1.0 may omit Host; the empty one sent instead is refused here
        again = read(sent)
        assert isinstance(again, RequestHead), f"relayed, but not accepted: {again} {sent!r}"
        named = set(map(fold, (head.connection or b"").replace(b" ", b"").split(b",")))
        for name in ("method", "target", "path", "host", "framing", "lines"):
            assert getattr(again, name) == getattr(head, name), name
        for name, field in CREDENTIALS.items():  # unless Connection names the field
            assert named & {field} or getattr(again, name) == getattr(head, name), name
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=ROOM)
    reader.receive_data(sent)
    event = reader.next_event()
    assert isinstance(event, h11.Request), event
    assert (event.method, event.target) == (head.method, head.target)
    names = [bytes(name) for name, _ in event.headers]
    framed = {b"transfer-encoding"} if head.framing is Framing.CHUNKED else set()
    assert not {fold(name) for name in names} & (ENDS_HERE - framed)
    values = [bytes(value) for name, value in event.headers if name == b"host"]
    assert values == [head.host]
    lengths = [bytes(value) for name, value in event.headers if name == b"content-length"]
    if head.framing is Framing.LENGTH:
        assert lengths == [b"%d" % head.length] or int(lengths[0]) == head.length > 0
    else:
        assert lengths in ([], [b"0"]) or int(lengths[0]) == 0
    assert not (lengths and framed), raw
    if head.target != b"*":
        path = head.target.partition(b"?")[0]
        assert unquote_to_bytes(path).decode() == head.path
    assert_fields_checked(head)


def serialize(head: RequestHead) -> bytes:
    """The head as the proxy sends it, without the lines that it adds."""
    coding = b"Transfer-Encoding: chunked\r\n" if head.framing is Framing.CHUNKED else b""
    return b"%b %b HTTP/1.1\r\n%b%b\r\n" % (head.method, head.target, head.lines, coding)


def assert_fields_checked(head: RequestHead) -> None:
    """Each relayed line is one line, and a process without caches judges it equally."""
    for line in head.lines.split(b"\r\n")[:-1]:
        assert not {0, 10, 13} & set(line)
        name = line.partition(b":")[0]
        # The sidecar sends an empty Host if an HTTP/1.0 request has none.
        assert line == b"Host: " or request_fields().of(line), name
