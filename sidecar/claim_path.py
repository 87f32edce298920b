"""Where a claim is found in the claims of a token or a session. Pure.

Owns the three forms in which a configuration names a claim. Knows neither tokens nor what a claim
means.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_BAD_ESCAPE: Final = re.compile(r"~(?![01])")
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")  # RFC 6901 section 4


@dataclass(frozen=True, slots=True)
class ClaimPath:
    """A compiled path. `find` returns the claim's value, or None if there is none.

    A path that begins with "/" is a JSON pointer (RFC 6901). Any other is first the name of a claim
    as it stands, dots included; if the claims have no such name and it has dots, each separates the
    name of an object from that of a member. A path with "://" is only a name. Raises ValueError for
    a path that can name nothing.
    """

    text: str
    _is_pointer: bool = field(init=False, compare=False, repr=False)
    _names: tuple[str, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_is_pointer", self.text.startswith("/"))
        object.__setattr__(self, "_names", _split(self.text))

    def find(self, claims: Mapping[str, Any]) -> Any:
        """Return the value in these claims; None if there is none, or if it is null."""
        if not self._is_pointer and self.text in claims:
            return claims[self.text]
        value = claims.get(self._names[0])
        for name in self._names[1:]:
            if isinstance(value, dict):
                value = value.get(name)
            elif self._is_pointer and isinstance(value, list):
                value = _item(value, name)
            else:
                return None
        return value


def _split(text: str) -> tuple[str, ...]:
    if not text or not text.isprintable():
        raise ValueError("expected the name of a claim, or a path to one")
    if text.startswith("/"):
        if _BAD_ESCAPE.search(text):
            raise ValueError('expected "~" in a JSON pointer only as ~0 (itself) or ~1 ("/")')
        names = text[1:].split("/")
        return tuple(name.replace("~1", "/").replace("~0", "~") for name in names)
    if "://" in text:
        return (text,)
    names = text.split(".")
    if "" in names:
        raise ValueError(
            "expected a name on each side of every dot; a name that begins or ends with a dot is "
            f'written as a JSON pointer, such as "/{text}"'
        )
    return tuple(names)


def _item(items: list[Any], index: str) -> Any:
    if not _INDEX.fullmatch(index) or int(index) >= len(items):
        return None
    return items[int(index)]
