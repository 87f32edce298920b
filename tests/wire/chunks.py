"""Chunked bodies as RFC 9112 section 7.1 defines them, and a slow reference decoder."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import strategies as st

if TYPE_CHECKING:
    from sidecar.wire.framing import Body


class NotChunkedError(Exception):
    """The octets are not a valid chunked body."""


@dataclass(slots=True)
class Decoded:
    """The contents of a chunked body."""

    data: bytes = b""
    trailers: list[bytes] = field(default_factory=list)
    rest: bytes = b""
    sizes: list[int] = field(default_factory=list)


def decode(octets: bytes) -> Decoded:
    """Decode a complete body line by line. Raises NotChunkedError if it is invalid."""
    decoded = Decoded()
    while True:
        line, octets = next_line(octets)
        match = re.fullmatch(rb"([0-9A-Fa-f]+)(?:[ \t]*;[\t\x20-\x7e]*)?", line)
        if match is None:
            raise NotChunkedError(line)
        size = int(match[1], 16)
        decoded.sizes.append(size)
        if size == 0:
            break
        if octets[size : size + 2] != b"\r\n":
            raise NotChunkedError("no end of chunk")
        decoded.data += octets[:size]
        octets = octets[size + 2 :]
    while True:
        line, octets = next_line(octets)
        if not line:
            decoded.rest = octets
            return decoded
        decoded.trailers.append(line)


def next_line(octets: bytes) -> tuple[bytes, bytes]:
    """Return a line without its end, and the rest."""
    line, end, rest = octets.partition(b"\r\n")
    if not end:
        raise NotChunkedError("no end of line")
    return line, rest


def split_at(octets: bytes, cuts: list[int]) -> list[bytes]:
    """Split octets into pieces, as a socket might deliver them."""
    edges = [0, *sorted(cut % (len(octets) + 1) for cut in cuts), len(octets)]
    pieces = [octets[a:b] for a, b in pairwise(edges)]
    return [piece for piece in pieces if piece]


def feed(body: Body, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """Feed a body with the pieces; return what it passes on, and what follows its end."""
    passed = b""
    for at, piece in enumerate(pieces):
        passed += body.feed(piece)
        if body.done:
            return passed, body.rest + b"".join(pieces[at + 1 :])
    return passed, b""


cuts = st.lists(st.integers(0, 10_000), max_size=12)

_sizes = st.builds(
    lambda zeros, pattern: (zeros, pattern), st.integers(0, 3), st.sampled_from([b"%x", b"%X"])
)
_extensions = st.sampled_from([b"", b"", b";", b" ;a=b", b'\t; a="b\\"c" ; d', b";" + b"x" * 300])
_trailers = st.sampled_from(
    [
        *([], [], [b"A: 1"], [b"A: 1", b"b_c:2 "], [b"Content-Length: 5", b"A: 1"]),
        *([b"Set-Cookie: a=1"], [b"X-Auth-User: eve", b"D: " + b"d" * 300]),
    ]
)


@st.composite
def chunked_bodies(draw: st.DrawFn) -> bytes:
    """Generate valid chunked bodies, in every form that the grammar allows."""
    octets = b""
    for data in draw(st.lists(st.binary(min_size=1, max_size=40), max_size=5)):
        zeros, pattern = draw(_sizes)
        octets += b"0" * zeros + pattern % len(data) + draw(_extensions) + b"\r\n" + data + b"\r\n"
    octets += b"0" * draw(st.integers(1, 3)) + draw(_extensions) + b"\r\n"
    octets += b"".join(line + b"\r\n" for line in draw(_trailers))
    return octets + b"\r\n"
