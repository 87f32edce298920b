"""A rehearsal of `docker build` without an engine: folders take the place of layers.

COPY and RUN of the build stage are executed as written. The image's paths are moved below one
folder, and the running Python takes the place of the base image's, as does the machine's C compiler
that of the one that `apt-get` installs. ARG and ENV apply as in the image. No other function of an
engine is imitated.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from tests.deploy.dockerfile import rest_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.deploy.dockerfile import Instruction

MOVED: Final = ("/opt/", "/src", "/dist")
COMMAND: Final = 600.0  # seconds, at most; compiling takes one of them a minute


class Rehearsal:
    """A build of the context `source` in the folder `root`."""

    def __init__(self, root: Path, source: Path) -> None:
        self.root = root
        self._source = source

    def __repr__(self) -> str:
        return f"<Rehearsal in {self.root}>"

    def build(self, stage: list[Instruction]) -> None:
        """Execute all instructions of a stage. Raises AssertionError with the failed output."""
        work = self.root
        environment = self.environment(stage)
        for instruction in stage:
            if instruction.word == "WORKDIR":
                work = self.root / instruction.rest.lstrip("/")
                work.mkdir(parents=True)
            elif instruction.word == "COPY":
                self._copy(instruction.rest.split(), work)
            elif instruction.word == "ARG":
                name, _, value = instruction.rest.partition("=")
                environment[name] = value
            elif instruction.word == "RUN" and instruction.command()[0] != "apt-get":
                self._run(instruction.command(), work, environment)

    def path(self, part: str) -> str:
        """A path of the image, moved below the root; anything else is returned unchanged."""
        return f"{self.root}{part}" if part.startswith(MOVED) else part

    def environment(self, stage: list[Instruction]) -> dict[str, str]:
        """The variables of a stage's ENV, added to the current ones except PYTHON*."""
        found = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        for pair in (pair for rest in rest_of(stage, "ENV") for pair in shlex.split(rest)):
            name, _, value = pair.partition("=")
            paths = value.replace("$PATH", os.environ["PATH"]).split(":")
            found[name] = ":".join(map(self.path, paths)) if name == "PATH" else value
        return found

    def _copy(self, parts: list[str], work: Path) -> None:
        *sources, target = parts
        for source in sources:
            one = self._source / source
            if one.is_dir():
                skipped = shutil.ignore_patterns("__pycache__", "*.pyc")
                shutil.copytree(one, work / target, ignore=skipped)
            else:
                shutil.copy(one, work / target)

    def _run(self, command: list[str], work: Path, environment: dict[str, str]) -> None:
        moved = [self.path(part) for part in command]
        if moved[0] == "python":
            moved[0] = sys.executable
        done = subprocess.run(
            moved,
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND,
        )
        if done.returncode:
            raise AssertionError(f"{shlex.join(moved)}\n{done.stdout}\n{done.stderr}")
