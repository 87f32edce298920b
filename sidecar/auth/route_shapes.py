"""The paths that one rule matches: exactly one, or a prefix, as written or as applications fold it.

Owns the folding of case and of a final slash. Knows no methods, hosts, or other rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_ASCII_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


class Shape(NamedTuple):
    """The paths of a rule: `path` and, if `below`, every path below it.

    `fold` is None if case counts, and has been applied to `path`. With `any_slash`, a final slash
    does not count, and `path` has none.
    """

    path: str
    below: bool
    any_slash: bool
    fold: Callable[[str], str] | None

    @property
    def folds(self) -> bool:
        """Whether the rule matches paths other than those that it names."""
        return self.any_slash or self.fold is not None

    def matches(self, path: str) -> bool:
        """Whether the rule matches this normalised, decoded path."""
        if self.fold is not None:
            path = self.fold(path)
        if self.below:
            return path.startswith(self.path + "/") or (path == self.path and path != "")
        return (without_slash(path) if self.any_slash else path) == self.path


def make_shape(
    path: str, *, below: bool, any_case: bool, any_slash: bool, restricts: bool
) -> Shape:
    """Return the paths of a rule for `path`, which is empty for "/*".

    Applications differ in which letters they fold. A rule that `restricts` folds all letters that
    any of them may fold (`casefold`). A rule that lets in without a token folds only those that
    all of them do, in ASCII.
    """
    fold: Callable[[str], str] | None = None
    if any_case:
        fold = str.casefold if restricts else _lower_ascii
    any_slash = any_slash and not below  # a prefix matches both spellings anyway
    if any_slash:
        path = without_slash(path)
    return Shape(path if fold is None else fold(path), below, any_slash, fold)


def without_slash(path: str) -> str:
    """Return the path without its final slash, unless that is all of it."""
    return path.removesuffix("/") or path


def _lower_ascii(path: str) -> str:
    return path.translate(_ASCII_LOWER)
