"""The Dockerfile as lists of instructions: enough of its grammar for the tests of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: `RUN` and the rest of its line, continuation lines joined."""

    word: str
    rest: str

    def command(self) -> list[str]:
        """The exec form. Raises ValueError for a shell form."""
        found = json.loads(self.rest)
        if not isinstance(found, list) or not all(isinstance(part, str) for part in found):
            raise ValueError(self.rest)
        return found


def parse(path: Path) -> list[list[Instruction]]:
    """The instructions by stage; the first list is what stands before the first FROM."""
    stages: list[list[Instruction]] = [[]]
    lines = (line for line in path.read_text().splitlines() if line and not line.startswith("#"))
    for line in lines:
        whole = line
        while whole.endswith("\\"):
            whole = whole[:-1].rstrip() + " " + next(lines).strip()
        word, _, rest = whole.partition(" ")
        if word == "FROM":
            stages.append([])
        stages[-1].append(Instruction(word, rest.strip()))
    return stages


def rest_of(stage: list[Instruction], word: str) -> list[str]:
    """What follows each instruction of this word."""
    return [instruction.rest for instruction in stage if instruction.word == word]
