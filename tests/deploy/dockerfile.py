"""A parser of the Dockerfile, limited to the grammar that the tests need."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: its keyword and the rest of its line, with continuation lines joined."""

    word: str
    rest: str

    def command(self) -> list[str]:
        """The arguments of the exec form. Raises ValueError for the shell form."""
        found = json.loads(self.rest)
        if not isinstance(found, list) or not all(isinstance(part, str) for part in found):
            raise ValueError(self.rest)
        return found


def parse(path: Path) -> list[list[Instruction]]:
    """The instructions of each stage; the first list has those before the first FROM."""
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
    """The arguments of each instruction with this keyword."""
    return [instruction.rest for instruction in stage if instruction.word == word]
