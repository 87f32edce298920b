"""The fuzzing targets: the module, budget and seeds (in `corpus/<name>`) of each."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOLDER: Final = Path(__file__).parent
CORPUS: Final = FOLDER / "corpus"
# A folder in memory; the folders made in it have names that cannot be guessed.
MEMORY: Final = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
LONGEST: Final = 4096  # octets per input
CPU: Final = 5.0  # seconds of this thread per input; the slowest takes 0.05


@dataclass(frozen=True, slots=True)
class Target:
    """A target: `tests.fuzz.<module>.check` raises an exception for a finding.

    `mutated` is the number of mutated seeds in each test run.
    """

    name: str
    module: str
    mutated: int = 1000

    def load(self) -> Callable[[bytes], None]:
        """The target's check, imported late so that a fuzzer can instrument the tested code."""
        return cast("Callable[[bytes], None]", import_module(f"tests.fuzz.{self.module}").check)

    def seeds(self) -> list[bytes]:
        """The seeds and earlier findings, always in the same order."""
        return [path.read_bytes() for path in sorted((CORPUS / self.name).iterdir())]


TARGETS: Final = {
    target.name: target
    for target in (
        Target("head", "on_heads"),
        Target("body", "on_bodies"),
        Target("connection", "on_connections", mutated=150),
        Target("answer", "on_answers", mutated=150),
        Target("upgrade", "on_upgrades", mutated=150),
        Target("target", "on_targets"),
        Target("forwarded", "on_forwarded"),
        Target("subject", "on_subjects"),
        Target("token", "on_tokens"),
        Target("credentials", "on_credentials"),
        Target("session", "on_sessions"),
        Target("config", "on_config", mutated=200),
        Target("users", "on_users", mutated=200),
        Target("journal", "on_journals", mutated=200),
    )
}


class TooSlowError(AssertionError):
    """An input took more CPU time than the limit."""


def examine(check: Callable[[bytes], None], data: bytes) -> None:
    """Check one input. Raises what the check raises, and TooSlowError by the thread's CPU time."""
    began = time.thread_time()
    check(data)
    taken = time.thread_time() - began
    if taken > CPU:
        raise TooSlowError(f"{taken:.1f} s for {len(data)} octets")


def cut(data: bytes) -> list[bytes]:
    """`data` in pieces of random length, which are always the same for the same data."""
    chance = random.Random(crc32(data))
    longest = chance.choice((1, 2, 7, 40, 400))
    pieces = []
    while data:
        size = chance.randint(1, longest)
        pieces.append(data[:size])
        data = data[size:]
    return pieces


def mutations(seeds: list[bytes], chance: random.Random) -> Iterator[bytes]:
    """An endless series of inputs mutated from the seeds."""
    edits: tuple[Callable[[bytes], bytes], ...] = (
        lambda data: _splice(data, bytes((chance.randrange(256),)), chance, 1),
        lambda data: _splice(data, b"", chance, 8),
        lambda data: _splice(data, chance.choice(_MARKS), chance, chance.randint(0, 2)),
        lambda data: _splice(data, _piece(data, chance), chance, 0),
        lambda data: _splice(data, _piece(chance.choice(seeds), chance), chance, 8),
        lambda data: data[: chance.randint(0, len(data))] + _piece(chance.choice(seeds), chance),
    )
    while True:
        data = chance.choice(seeds)
        for _ in range(chance.randint(1, 4)):
            data = chance.choice(edits)(data)[:LONGEST]
        yield data


_MARKS: Final = (
    *(b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b";", b"=", b"%", b"/", b"\\", b"."),
    *(b'"', b"[", b"{", b"}", b"]", b"-", b"_", b"0", b"1", b"9" * 20, b"\xff", b"\xc3\xa9", b"?"),
    *(b"#", b"@", b"//", b"/../", b"%2e", b"%2F", b"%00", b"%25", b"\r\n\r\n", b"0\r\n\r\n"),
)


def _splice(data: bytes, piece: bytes, chance: random.Random, length: int) -> bytes:
    at = chance.randint(0, len(data))
    return data[:at] + piece + data[at + chance.randint(0, length) :]


def _piece(data: bytes, chance: random.Random) -> bytes:
    at = chance.randint(0, len(data))
    return data[at : at + chance.randint(1, 60)]
