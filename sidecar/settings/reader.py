"""Reads one table of raw values by its kinds, and keeps every problem with its place.

The place is the source's word for the value: `config/sidecar.toml: route[2].access`,
`environment REDIS_PORT`, `flag --listen`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.errors import Problem
from sidecar.settings.kinds import Kind, Refused, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Given:
    """What one source gave for one setting. `folder` is where relative paths in it start."""

    raw: object
    where: str
    folder: Path = Path()


@dataclass(slots=True)
class Reader:
    """Collects problems while values are read; a value that cannot be read is left out."""

    problems: list[Problem] = field(default_factory=list)

    def report(self, where: str, expected: str) -> None:
        """Keep one problem."""
        self.problems.append(Problem(where, expected))

    def table(self, kinds: Mapping[str, Kind], given: Mapping[str, Given]) -> dict[str, object]:
        """The values that could be read, by name. Names that are no kind's are not looked at."""
        values: dict[str, object] = {}
        for name, one in given.items():
            if name in kinds:
                try:
                    values[name] = self._value(kinds[name], one)
                except ValueError as refusal:
                    self.report(one.where, _expected(kinds[name], one.raw, refusal))
        return values

    def unknown(self, names: Iterable[str], known: Iterable[str], where: str) -> None:
        """Report keys that are none of the known ones."""
        choices = list(known)
        for name in names:
            if name not in choices:
                key = name if name.isprintable() else shown(name)
                self.report(f"{where}{key}", f"unknown key{did_you_mean(name, choices)}")

    def _value(self, kind: Kind, one: Given) -> object:
        value = kind.read(one.raw)
        if not kind.path or not isinstance(value, str) or not value:
            return value
        path = one.folder / value
        if kind.folder:
            return str(path)
        try:
            with path.open("rb"):
                return str(path)
        except OSError as fault:
            if kind.absent and isinstance(fault, FileNotFoundError):
                return str(path)
            raise Refused(f"cannot be read: {fault.strerror} ({shown(str(path))})") from None


def _expected(kind: Kind, raw: object, refusal: ValueError) -> str:
    if isinstance(refusal, Refused):
        return str(refusal)
    return f"expected {kind.expected}" + ("" if kind.secret else f"; got {shown(raw)}")


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """`; did you mean redis_port?`, or nothing when no choice is near."""
    plain = {_plain(choice): choice for choice in choices}
    near = get_close_matches(_plain(name), list(plain), n=1, cutoff=0.75)
    return f"; did you mean {plain[near[0]]}?" if near else ""


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")
