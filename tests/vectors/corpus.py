"""The vectors as data: read from the TOML files beside this module, checked, escaped octets undone.

Knows the file format (README.md) and nothing of sockets or of the sidecar.
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
_TRICKLED: Final = 400  # octets; of longer messages the first and the last of them go one by one


class Repeated(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`repeat`, so many `times`: what is too long to be written out."""

    repeat: str
    times: int


Raw: TypeAlias = str | list[str | Repeated]


def octets(raw: Raw, words: Mapping[str, str] | None = None) -> bytes:
    """The octets that a text stands for: U+0000 to U+00FF; `<<word>>` is looked up in `words`."""
    if not isinstance(raw, str):
        parts = (part if isinstance(part, str) else part.repeat * part.times for part in raw)
        raw = "".join(parts)
    for word, value in (words or {}).items():
        raw = raw.replace(f"<<{word}>>", value)
    return raw.encode("latin-1")


class Forwarded(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the upstream sees of a request that goes on.

    `has` is whole header lines; `lacks` is names of which no spelling may be there (`_` is `-`);
    `framed` is the body in its chunks.
    """

    line: str
    has: list[str] = []
    lacks: list[str] = []
    body: Raw = ""
    framed: Raw | None = None
    trailers: Raw = ""


Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]


class RequestVector(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a client sends, and what becomes of it.

    `status` is what the client gets; `forwarded` what the upstream got, if it got a whole request.
    `paths` is the sidecar's PATHS_AMBIGUOUS; one that normalises trusts nobody.
    `closes`: nothing of what follows is read, by default so when nothing is forwarded. `head_seen`:
    the fault is in the body, of which the upstream may get a part but never the end.
    """

    name: Text
    rfc: Text
    send: Raw
    status: int
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
        """Whether the connection ends with the answer."""
        return self.forwarded is None if self.closes is None else self.closes


class AnswerVector(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an upstream answers, and what the client sees of it.

    `broken`: the client gets 502, or the answer visibly cut off if it had begun. `truncated`: the
    latter alone. `pooled`: the next request comes on the same upstream connection; else that one is
    dropped. `warm`: it has served a request before. `asked`: how often the upstream was asked.
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
        raise ValueError(f"two vectors are called {name}")
    return name


REQUESTS, ANSWERS = _read()


def pieces(data: bytes, cut: str, seed: str) -> list[bytes]:
    """How the octets are cut into writes; the same for the same seed."""
    if cut == "whole":
        return [data]
    if cut == "octets":
        ends = [*range(1, min(len(data), _TRICKLED)), *range(len(data) - _TRICKLED, len(data))]
    else:
        draw = random.Random(zlib.crc32(seed.encode()))
        ends = [draw.randrange(len(data)) for _ in range(draw.randint(2, 12))]
    places = [0, *sorted({end for end in ends if end > 0}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]
