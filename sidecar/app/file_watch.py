"""Tells when files have changed, by looking at them; never in the middle of a change.

A look is one `stat` for each, so that a change by rename or by a switched link, as Kubernetes makes
it, shows like any other. Reads none of them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    Looks = dict[str, tuple[int, ...] | None]


class FileWatch:
    """These files, as they were when it was made; those that are not there are watched too."""

    __slots__ = ("_last", "_used")

    def __init__(self, paths: Iterable[str]) -> None:
        self._used: Looks = _look(paths)
        self._last = self._used

    def __repr__(self) -> str:
        return f"<FileWatch {len(self._used)} files, changed={self._last != self._used}>"

    def has_changed(self) -> bool:
        """Whether they differ from what they were, and not from what the last call saw.

        So with a call every so often nobody has written for as long.
        """
        before, self._last = self._last, _look(self._used)
        return self._last == before and self._last != self._used

    def take(self) -> None:
        """They are about to be read: as they are now is how they were."""
        self._used = self._last = _look(self._used)

    def turn_to(self, paths: Iterable[str]) -> None:
        """Watch these instead; of those that were watched before, a change is not lost."""
        self._used = self._last = {**_look(paths), **_kept(self._used, paths)}


def _kept(used: Looks, paths: Iterable[str]) -> Looks:
    return {path: used[path] for path in paths if path in used}


def _look(paths: Iterable[str]) -> Looks:
    return {path: _look_at(path) for path in paths}


def _look_at(path: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 (no Path is made every second for each)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
