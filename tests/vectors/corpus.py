"""The vectors as data: read from the TOML files in this folder, checked, and decoded to octets.

Knows the file format (README.md), and nothing of sockets or of the sidecar.
"""

from __future__ import annotations

import itertools
import random
import tomllib
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER: Final = Path(__file__).parent
CUTS: Final = ("whole", "octets", "random")
_TRICKLED: Final = 400  # octets at either end that are sent one by one


class Repeated(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`repeat`, repeated `times` times, for parts that are too long to write out."""

    repeat: str
    times: int


Raw: TypeAlias = str | list[str | Repeated]


def octets(raw: Raw, words: Mapping[str, str] | None = None) -> bytes:
    """Return the octets of a text of U+0000 to U+00FF; `<<word>>` is replaced from `words`."""
    if not isinstance(raw, str):
        parts = (part if isinstance(part, str) else part.repeat * part.times for part in raw)
        raw = "".join(parts)
    for word, value in (words or {}).items():
        raw = raw.replace(f"<<{word}>>", value)
    return raw.encode("latin-1")


class Forwarded(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The request as the upstream must receive it.

    `has` are whole header lines. `lacks` are names that must not occur in any spelling (`_` equals
    `-`). `framed` is the body with its chunk framing.
    """

    line: str
    has: list[str] = []
    lacks: list[str] = []
    body: Raw = ""
    framed: Raw | None = None
    trailers: Raw = ""


Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]


class RequestVector(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A client's request and the expected result.

    `status` is the client's answer, and `reason` the word in it for what is malformed; a denial has
    no such word. `forwarded` is the request at the upstream, if it got a whole
    one. `paths` is the sidecar's PATHS_AMBIGUOUS; the sidecar that normalises trusts no peer.
    `closes` means that nothing after the request is read; it defaults to true if nothing is
    forwarded. `head_seen` means that the fault is in the body, so the upstream may get a part of it
    but never its end.
    """

    name: Text
    rfc: Text
    send: Raw
    status: int
    reason: str | None = ""  # None: any
    note: str = ""
    peer: Literal["stranger", "trusted"] = "stranger"
    paths: Literal["reject", "normalise"] = "reject"
    closes: bool | None = None
    head_seen: bool = False
    says: list[str] = []
    forwarded: Forwarded | None = None
    switches: bool = False

    @property
    def ends(self) -> bool:
        """Whether the connection ends after the answer."""
        return self.forwarded is None if self.closes is None else self.closes


class AnswerVector(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An upstream's answer, and what the client must see of it.

    `broken`: the client gets 502, or a visibly cut-off answer if it had begun. `truncated`: only
    the latter. `pooled`: the next request uses the same upstream connection, which is otherwise
    dropped. `warm`: the connection has served a request before. `asked`: requests that the upstream
    must get.
    """

    name: Text
    rfc: Text
    answer: Raw
    note: str = ""
    send: Raw = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    then: Literal["stay", "close", "reset"] = "stay"
    warm: bool = False
    asked: int = 1
    status: int = 502
    broken: bool = False
    truncated: bool = False
    pooled: bool = False
    interim: list[int] = []
    body: Raw | None = None
    framed: Raw | None = None
    has: list[str] = []
    lacks: list[str] = []


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    request: list[RequestVector] = []
    answer: list[AnswerVector] = []


def _read() -> tuple[dict[str, RequestVector], dict[str, AnswerVector]]:
    requests: dict[str, RequestVector] = {}
    answers: dict[str, AnswerVector] = {}
    for path in sorted(FOLDER.glob("*.toml")):
        file = msgspec.convert(tomllib.loads(path.read_text("utf-8")), _File)
        for vector in file.request:
            requests[_free(f"{path.stem}/{vector.name}", requests)] = vector
        for answer in file.answer:
            answers[_free(f"{path.stem}/{answer.name}", answers)] = answer
    return requests, answers


def _free(name: str, taken: Mapping[str, object]) -> str:
    if name in taken:
        raise ValueError(f"more than one vector is named {name}")
    return name


REQUESTS, ANSWERS = _read()


def pieces(data: bytes, cut: str, seed: str) -> list[bytes]:
    """Split the octets into writes; the same seed gives the same pieces."""
    if cut == "whole":
        return [data]
    if cut == "octets":
        ends = [*range(1, min(len(data), _TRICKLED)), *range(len(data) - _TRICKLED, len(data))]
    else:
        draw = random.Random(zlib.crc32(seed.encode()))
        ends = [draw.randrange(len(data)) for _ in range(draw.randint(2, 12))]
    places = [0, *sorted({end for end in ends if end > 0}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]
