"""Upstream octets in any pieces: the client gets one well-formed response or sees a failure.

Input: one octet that selects the request, then everything that the upstream sends before it closes.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

import h11

from tests.fuzz.targets import cut
from tests.proxy.memory_plane import Plane, rest

REQUESTS: Final = {
    b"G": b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"H": b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"0": b"GET / HTTP/1.0\r\n\r\n",
    b"P": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nok",
    b"E": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n",
}
HEAD_ONLY: Final = re.compile(rb"HTTP/1\.1 200 OK\r\nContent-Length: [0-9]{1,9}\r\n\r\n")
Answer = tuple[int, tuple[tuple[bytes, bytes], ...], bytes]
OWN: Final = frozenset((502, 503, 504))


def check(data: bytes) -> None:
    """Send the input whole and in pieces; both responses must be well-formed and equal."""
    kind, data = data[:1], data[1:]
    request = REQUESTS.get(kind, REQUESTS[b"G"])
    whole = asyncio.run(play(request, [data] if data else []))
    pieces = asyncio.run(play(request, cut(data)))
    if kind == b"H" and HEAD_ONLY.fullmatch(data):
        assert whole is not None, "a response to HEAD has a length and no body"
    if whole is not None and whole[0] not in OWN:
        # h11 reads the same response from the upstream's octets.
        said = read(request, data, closed=True, alone=False)
        assert said is not None
        assert (said[0], said[2]) == (whole[0], whole[2])
    if whole is not None and pieces is not None:
        assert whole == pieces
    else:
        # A fault after octets were relayed breaks the response off; a fault before that is a 502.
        assert whole is pieces or (whole or pieces or (0,))[0] in OWN


async def play(request: bytes, pieces: list[bytes]) -> Answer | None:
    """The client's response, as h11 reads it; None if the connection breaks off."""
    plane = Plane()
    client = plane.connect()
    client.feed(request)
    await rest()
    (wire,) = plane.connector.wires
    for piece in pieces:
        if not wire.is_reading():
            break
        wire.feed(piece)
        await rest()
    if wire.is_reading():
        wire.feed_eof()
    wire.lose(None)
    await rest()
    answer = read(request, client.take(), closed=client.is_closing() and not client.aborted)
    if client.aborted:
        answer = None  # however much of it arrived
    if not client.lost:
        client.lose(None)
    await rest()
    return answer


def read(request: bytes, written: bytes, *, closed: bool, alone: bool = True) -> Answer | None:
    """The final response to this request, as h11 reads it.

    With `alone`, nothing may follow it, and at most one header may frame it. Raises
    h11.RemoteProtocolError for anything but a response.
    """
    if not written:
        return None
    reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    reader.send(h11.Request(method=request.split(b" ")[0], target=b"/", headers=[(b"Host", b"h")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(written)
    if closed:
        reader.receive_data(b"")
    status, body = 0, b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    while True:
        try:
            event = reader.next_event()
        except h11.RemoteProtocolError:
            if closed and reader.their_state is h11.ERROR and not status:
                return None
            raise
        if isinstance(event, h11.Response):
            status = event.status_code
            headers = tuple((bytes(name), bytes(value)) for name, value in event.headers)
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            if alone:
                assert not reader.trailing_data[0], "octets after the response"
                framings = {b"content-length", b"transfer-encoding"}
                assert len([name for name, _ in headers if name in framings]) <= 1
            return status, headers, body
        elif event is h11.NEED_DATA:
            return None
