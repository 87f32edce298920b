"""Upstream responses to an upgrade, in any pieces: a tunnel to the requested protocol or none.

Input: everything that the upstream sends before it closes.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

from sidecar.wire.websocket import Frames
from tests.fuzz.on_answers import read
from tests.fuzz.targets import cut
from tests.proxy.memory_plane import Plane, rest

REQUEST: Final = (
    b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
PING: Final = b"\x89\x80\0\0\0\0"
SWITCHED: Final = b"HTTP/1.1 101"
_FIELD: Final = re.compile(rb"\r\n([^:\r]+):[ \t]*([^\r]*)")


def check(data: bytes) -> None:
    """Send the input whole and in pieces; the client's octets and frame ends must not differ."""
    whole, through = asyncio.run(play([data] if data else []))
    pieces, through_pieces = asyncio.run(play(cut(data)))
    assert through == through_pieces
    if not through:
        read(REQUEST, whole, closed=False)  # h11 would refuse a 101
        return
    assert whole == pieces
    head, _, behind = whole.partition(b"\r\n\r\n")
    while not head.startswith(SWITCHED):
        head, _, behind = behind.partition(b"\r\n\r\n")
    assert data.endswith(b"\r\n\r\n" + behind), "every octet after a 101 must be relayed"
    check_switched(data[: len(data) - len(behind)])
    fields = [(name.lower(), value.lower()) for name, value in _FIELD.findall(head)]
    assert [value for name, value in fields if name == b"upgrade"] == [b"websocket"]
    assert [value for name, value in fields if name == b"connection"] == [b"upgrade"]
    assert not {b"content-length", b"transfer-encoding"} & {name for name, _ in fields}
    check_frames(behind)


def check_switched(said: bytes) -> None:
    """Check that the upstream's 101 names only this protocol, and names Upgrade in Connection."""
    head = said[:-4].rpartition(b"\r\n\r\n")[2]
    fields = [(name.lower(), value.strip().lower()) for name, value in _FIELD.findall(head)]
    assert [value for name, value in fields if name == b"upgrade"] == [b"websocket"]
    tokens = b",".join(value for name, value in fields if name == b"connection").split(b",")
    assert b"upgrade" in {token.strip() for token in tokens}


async def play(pieces: list[bytes]) -> tuple[bytes, bool]:
    """The client's octets, and whether what the client sends then reaches the upstream."""
    plane = Plane()
    client = plane.connect()
    client.feed(REQUEST)
    await rest()
    (wire,) = plane.connector.wires
    wire.take()
    for piece in pieces:
        if not wire.is_reading():
            break
        wire.feed(piece)
        await rest()
    got, through = client.take(), False
    if client.is_reading():
        client.feed(PING)
        await rest()
        through = wire.take() == PING
    if not wire.lost:
        wire.lose(None)
    await rest()
    if not client.lost:
        client.lose(None)
    await rest()
    return got, through


def check_frames(data: bytes) -> None:
    """Check that frames end where RFC 6455 section 5.2 says, in any pieces."""
    ends, under_way = frame_ends(data)
    whole = Frames()
    assert whole.follow(data) == (ends[0] if ends else -1)
    assert whole.between is not under_way
    frames = Frames()
    found = [at for at in range(1, len(data) + 1) if frames.follow(data[at - 1 : at]) >= 0]
    assert found == ends
    assert frames.between is not under_way


def frame_ends(data: bytes) -> tuple[list[int], bool]:
    """The end of each complete frame, and whether an incomplete frame follows."""
    ends: list[int] = []
    at = 0
    while at + 2 <= len(data):
        length, head = data[at + 1] & 127, 2
        if length == 126:
            length, head = int.from_bytes(data[at + 2 : at + 4]), 4
        elif length == 127:
            length, head = int.from_bytes(data[at + 2 : at + 10]), 10
        head += 4 if data[at + 1] & 128 else 0
        if at + head + length > len(data):
            break
        at += head + length
        ends.append(at)
    return ends, at < len(data)
