"""Client octets in any pieces: the upstream and the client get the same.

The whole data plane runs in memory. The upstream is an h11 server, and llhttp reads every request
as well.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import h11

from sidecar.wire.headers import fold
from tests.fuzz.second_reader import Message, Reader, read_by_llhttp
from tests.fuzz.targets import cut
from tests.proxy.memory_plane import Plane, rest

if TYPE_CHECKING:
    from tests.peers.memory_transport import MemoryTransport

IDENTITY = {
    b"x-auth-user",
    b"x-auth-subject",
    b"x-auth-issuer",
    b"x-auth-roles",
    b"x-auth-scopes",
    b"x-auth-session",
}


@dataclass(slots=True)
class Outcome:
    """The requests that the upstream received completely, and the statuses of the responses."""

    requests: list[Message] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)


def check(data: bytes) -> None:
    """Send the input whole, in pieces, and in two pieces without waiting for a response."""
    whole = asyncio.run(play([data] if data else []))
    pieces = asyncio.run(play(cut(data)))
    assert whole == pieces
    edge = len(data) * 2 // 3
    ahead = asyncio.run(play([piece for piece in (data[:edge], data[edge:]) if piece], ahead=True))
    assert whole == ahead
    for message in whole.requests:
        check_request(message)


async def play(pieces: list[bytes], *, ahead: bool = False) -> Outcome:
    """Send the pieces through a new data plane; with `ahead`, all before any response."""
    plane = Plane()
    outcome = Outcome()
    readers: dict[int, Reader] = {}
    client = plane.connect()
    for piece in pieces:
        if not client.is_reading():
            await serve(plane, readers, outcome)
        if not client.is_reading():
            break
        client.feed(piece)
        if ahead:
            await rest()
        else:
            await serve(plane, readers, outcome)
    await serve(plane, readers, outcome)
    outcome.statuses = statuses(client.take(), outcome.requests)
    client.lose(None)
    await rest()
    return outcome


async def serve(plane: Plane, readers: dict[int, Reader], outcome: Outcome) -> None:
    """Act as the upstream until there is nothing left to read."""
    busy = True
    while busy:
        await rest()
        busy = False
        for number, wire in enumerate(plane.connector.wires):
            sent = wire.take()
            if sent:
                busy = True
                await read(wire, readers.setdefault(number, Reader()), sent, outcome)


async def read(wire: MemoryTransport, reader: Reader, sent: bytes, outcome: Outcome) -> None:
    """Let both readers read the octets, and respond to complete requests."""
    try:
        whole = reader.feed(sent)
    except h11.RemoteProtocolError as error:
        raise AssertionError(f"h11 refuses {sent!r}: {error}") from error
    for message, octets in whole:
        other = await read_by_llhttp(octets)
        if other is not None:
            assert other == message
        outcome.requests.append(message)
        answer = reader.answer()
        if wire.is_reading():
            wire.feed(answer)


def statuses(written: bytes, requests: list[Message]) -> list[int]:
    """The status of each response in the client's octets, as h11 reads them."""
    found: list[int] = []
    methods = [message.method for message in requests]
    while written:
        reader = h11.Connection(h11.CLIENT)
        method = methods[len(found)] if len(found) < len(methods) else b"GET"
        reader.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"h")]))
        reader.send(h11.EndOfMessage())
        reader.receive_data(written)
        status = 0
        while not isinstance(event := reader.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status = event.status_code
            assert event is not h11.NEED_DATA, f"the response has no end: {written!r}"
        found.append(status)
        written, _ = reader.trailing_data
    return found


def check_request(message: Message) -> None:
    """Check the headers that the sidecar must have added and removed in a request."""
    folded = [fold(name) for name, _ in message.headers]
    for name in IDENTITY:
        # RFC 9110 section 7.6.1: the client's headers are removed, whatever Connection names.
        assert message.values(name) == [b""], name
        assert folded.count(name) == 1
    assert message.values(b"x-forwarded-for") == [b"192.0.2.1"]
    assert len(message.values(b"host")) == 1
    assert len(message.values(b"via")) >= 1
    assert len(message.values(b"x-request-id")) == 1
    assert len(message.values(b"content-length")) + len(message.values(b"transfer-encoding")) <= 1
    upgrades = message.values(b"upgrade")
    assert upgrades in ([], [b"websocket"])
    assert message.values(b"connection") == ([b"Upgrade"] if upgrades else [])
