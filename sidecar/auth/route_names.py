"""The names of routes, which label metrics and log lines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNNAMEABLE: Final = re.compile(r"[^A-Za-z0-9._-]+")


def route_names(rules: Sequence[tuple[str, str]], *, taken: str) -> list[str]:
    """Return a name for each rule, given as its configured name (may be empty) and its path.

    A rule without a name is named after its path; a number is added if that name is in use. The
    name `taken` belongs to another route.
    """
    used = {taken, *(name for name, _ in rules if name)}
    names = []
    for configured, path in rules:
        name = configured
        if not name:
            stem = name = _stem(path)
            number = 2
            while name in used:
                name = f"{stem}-{number}"
                number += 1
            used.add(name)
        names.append(name)
    return names


def _stem(path: str) -> str:
    if path == "/*":
        return "all"
    return _UNNAMEABLE.sub("-", path.removesuffix("/*")).strip("-") or "root"
