"""Reads the raw values of a table by their kinds, and collects every problem with its place.

A place names the source and the value: `config/sidecar.toml: route[2].access`,
`environment REDIS_PORT`, `flag --listen`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.errors import Problem
from sidecar.settings.kinds import InvalidValue, ValueKind, explain, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class RawValue:
    """The value of a setting as a source contains it. Relative paths in it start at `folder`."""

    raw: object
    where: str
    folder: Path = Path()


@dataclass(slots=True)
class Reader:
    """Collects problems while values are read. A value that cannot be read is left out."""

    problems: list[Problem] = field(default_factory=list)

    def report(self, where: str, message: str) -> None:
        """Add a problem; the message is a whole statement."""
        self.problems.append(Problem(where, message))

    def table(
        self, kinds: Mapping[str, ValueKind], given: Mapping[str, RawValue]
    ) -> dict[str, object]:
        """Return the values that could be read, by name. Ignores names that are not in `kinds`."""
        values: dict[str, object] = {}
        for name, value in given.items():
            if name in kinds:
                try:
                    values[name] = self._read(kinds[name], value)
                except ValueError as error:
                    self.report(value.where, explain(kinds[name], value.raw, error))
        return values

    def unknown(self, names: Iterable[str], known: Iterable[str], where: str) -> None:
        """Report every key that is not a known one."""
        choices = list(known)
        for name in names:
            if name not in choices:
                key = name if name.isprintable() else shown(name)
                self.report(f"{where}{key}", f"unknown key{did_you_mean(name, choices)}")

    def _read(self, kind: ValueKind, given: RawValue) -> object:
        value = kind.read(given.raw)
        if not kind.path or not isinstance(value, str) or not value:
            return value
        path = given.folder / value
        if kind.folder:
            return str(path)
        try:
            with path.open("rb"):
                return str(path)
        except OSError as fault:
            if kind.absent and isinstance(fault, FileNotFoundError):
                return str(path)
            raise InvalidValue(f"cannot be read: {fault.strerror} ({shown(str(path))})") from None


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return `; did you mean redis_port?`, or an empty text if no choice is similar."""
    plain = {_plain(choice): choice for choice in choices}
    near = get_close_matches(_plain(name), list(plain), n=1, cutoff=0.75)
    return f"; did you mean {plain[near[0]]}?" if near else ""


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")
