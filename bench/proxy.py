"""What the suite knows of a measured proxy, and of one that runs.

Owns the form of these entries. Must not know any proxy.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.scenarios import Need, Setup
from bench.tokens import Algorithm

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.children import Child
    from bench.lab import Lab


@dataclass(slots=True)
class Running:
    """A started proxy: its programs, its port, and a token of each user that it accepts.

    The first child listens on the port. `pids` are the processes whose cost counts.
    """

    children: tuple[Child, ...]
    port: int
    tokens: tuple[str, ...]
    algorithm: Algorithm = Algorithm.HS256
    tls: bool = False
    pids: list[int] = field(default_factory=list)

    @property
    def token(self) -> str:
        """One of the tokens."""
        return self.tokens[0]


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy. `tools` (programs) and `files` must exist; `redis` means that it queries Redis.

    At the path `whoami`, the upstream returns the user that this proxy tells it.
    """

    name: str
    title: str
    start: Callable[[Lab, Proxy, Setup], Running]
    abilities: frozenset[Need]
    tools: tuple[str, ...]
    files: tuple[str, ...] = ()
    redis: bool = False
    setups: frozenset[Setup] = frozenset({Setup.SESSIONS})
    whoami: str = "/whoami"

    @property
    def checks_tokens(self) -> bool:
        """Whether it refuses requests without a good token."""
        return Need.DENY in self.abilities

    def missing(self) -> list[str]:
        """The programs and files that are missing."""
        tools = [tool for tool in self.tools if shutil.which(tool) is None]
        return tools + [path for path in self.files if not Path(path).exists()]
