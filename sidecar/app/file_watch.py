"""Detects changed files by comparing `stat` results, and waits until a change is complete.

One `stat` per file also detects a replaced file and a switched symbolic link, with which Kubernetes
updates mounted files. Reads no file.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    Snapshot = dict[str, tuple[int, ...] | None]


class FileWatch:
    """Watches files, beginning with their state now. Missing files are watched as well."""

    __slots__ = ("_last", "_taken")

    def __init__(self, paths: Iterable[str]) -> None:
        self._taken: Snapshot = _snapshot(paths)  # what the program uses
        self._last = self._taken  # what the last call saw

    def __repr__(self) -> str:
        return f"<FileWatch {len(self._taken)} files, changed={self._last != self._taken}>"

    def has_changed(self) -> bool:
        """Whether the files differ from those in use, and have not changed since the last call.

        Call it at a regular interval: True then means that a change was complete for one interval.
        """
        before, self._last = self._last, _snapshot(self._taken)
        return self._last == before and self._last != self._taken

    def take(self) -> None:
        """Note the state of the files as the one in use; call this before reading them."""
        self._taken = self._last = _snapshot(self._taken)

    def replace_paths(self, paths: Iterable[str]) -> None:
        """Watch other files. A pending change of a file that was watched before is not lost."""
        wanted = list(paths)
        kept = {path: self._taken[path] for path in wanted if path in self._taken}
        self._taken = self._last = {**_snapshot(wanted), **kept}


def _snapshot(paths: Iterable[str]) -> Snapshot:
    return {path: _stat(path) for path in paths}


def _stat(path: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 (avoids making a Path for each file every second)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
