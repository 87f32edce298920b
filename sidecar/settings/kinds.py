"""The kinds of values that a setting can have: a `ValueKind` reads a value and shows it.

Reading takes what a source contains (text from the environment or a flag, any TOML value from the
file), and returns the value or raises ValueError. Knows nothing of sources, names or other
settings.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from sidecar.claim_path import ClaimPath
from sidecar.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

UNITS: Final = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}  # seconds
TOKEN: Final = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # RFC 9110 section 5.6.2
SIZES: Final = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10}  # bytes
MAX_DURATION: Final = 3650 * UNITS["d"]
SWITCH: Final = {"true": True, "yes": True, "on": True, "1": True} | dict.fromkeys(
    ("false", "no", "off", "0"), False
)

_NUMBER: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")
_DURATION: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)")
_SIZE: Final = re.compile(r"([0-9]{1,12}) ?(KiB|MiB|GiB)?")
_WHOLE: Final = re.compile(r"[0-9]{1,12}")


class InvalidValue(ValueError):
    """The value of a setting is invalid.

    Without a message, the `expected` of the value's kind says why (see `explain`). A message takes
    its place; it is a whole statement, such as "expected no path in http://app/x".
    """


def _unchanged(value: Any) -> object:
    return value


@dataclass(frozen=True, slots=True)
class ValueKind:
    """A kind of value: how to read it from a source, and how to show it as TOML.

    `expected` completes "expected …" in messages. `read` raises ValueError for an invalid value.
    """

    expected: str
    read: Callable[[object], object]
    show: Callable[[Any], object] = _unchanged  # a TOML value that `read` accepts
    path: bool = False  # the path of a file, relative to the file that names it
    absent: bool = False  # for a path: the file may be missing, which is like an empty file
    folder: bool = False  # for a path: it names a folder, which need not exist yet
    secret: bool = False  # neither the value nor its source text is ever shown


def text(expected: str = "a non-empty string", *, empty: bool = False) -> ValueKind:
    """A printable text on one line."""

    def read(raw: object) -> str:
        if not isinstance(raw, str) or not (raw or empty) or not raw.isprintable():
            raise InvalidValue
        return raw

    return ValueKind(expected, read)


def matching(pattern: str, expected: str) -> ValueKind:
    """A printable text that matches a regular expression from start to end."""

    def read(raw: object) -> str:
        if not isinstance(raw, str) or not re.fullmatch(pattern, raw) or not raw.isprintable():
            raise InvalidValue
        return raw

    return ValueKind(expected, read)


def claim(*, empty: bool = False) -> ValueKind:
    """The path of a claim, as `ClaimPath` reads it."""

    def read(raw: object) -> str:
        if not isinstance(raw, str) or not (raw or empty):
            raise InvalidValue
        try:
            return ClaimPath(raw).text if raw else ""
        except ValueError as fault:
            raise InvalidValue(f"{fault}; got {shown(raw)}") from None

    return ValueKind("the name of a claim, or a path such as realm_access.roles", read)


def choice(*words: str) -> ValueKind:
    """One of the given words."""

    def read(raw: object) -> str:
        if raw not in words:
            raise InvalidValue
        return str(raw)

    return ValueKind("one of " + ", ".join(word or '""' for word in words), read)


def integer(minimum: int, maximum: int) -> ValueKind:
    """A whole number from `minimum` to `maximum`, both included."""

    def read(raw: object) -> int:
        if isinstance(raw, str) and _WHOLE.fullmatch(raw):
            raw = int(raw)
        if not isinstance(raw, int) or isinstance(raw, bool) or not minimum <= raw <= maximum:
            raise InvalidValue
        return raw

    return ValueKind(f"a whole number {minimum}–{maximum}", read)  # noqa: RUF001 — en dash in a range


def size(minimum: int, maximum: int) -> ValueKind:
    """A number of bytes such as 32768 or 32KiB, both bounds included."""

    def read(raw: object) -> int:
        if isinstance(raw, str) and (found := _SIZE.fullmatch(raw)):
            raw = int(found[1]) * SIZES.get(found[2] or "", 1)
        if not isinstance(raw, int) or isinstance(raw, bool) or not minimum <= raw <= maximum:
            raise InvalidValue
        return raw

    return ValueKind(f"a size such as 32768 or 32KiB, from {minimum} to {maximum} bytes", read)


def duration(minimum: str = "0", maximum: str = "3650d") -> ValueKind:
    """A duration, read as seconds, both bounds included."""
    low, high = seconds(minimum), seconds(maximum)

    def read(raw: object) -> float:
        value = seconds(raw)
        if not low <= value <= high:
            raise InvalidValue
        return value

    bounds = f", from {minimum} to {maximum}" if (low, high) != (0.0, MAX_DURATION) else ""
    return ValueKind(f"a duration such as 15m, 12h, 7d, 900 or 100ms{bounds}", read, show_seconds)


def seconds(raw: object) -> float:
    """Read a duration such as `15m`, `12h`, `7d`, `900` or `100ms`, or a TOML number.

    Returns seconds, rounded to the millisecond. Raises InvalidValue.
    """
    if isinstance(raw, bool):
        raise InvalidValue
    written = str(raw) if isinstance(raw, int | float) else raw
    if not isinstance(written, str):
        raise InvalidValue
    if _NUMBER.fullmatch(written):
        return round(float(written), 3)
    found = _DURATION.fullmatch(written)
    if not found:
        raise InvalidValue
    return round(float(found[1]) * UNITS[found[2]], 3)


def show_seconds(value: float) -> object:
    """Write a duration in the shortest exact form: 900.0 → "15m"."""
    millis = round(value * 1000)
    for unit, length in UNITS.items():
        count, rest = divmod(millis, round(length * 1000))
        if count and not rest:
            return f"{count}{unit}"
    return value or 0


def switch() -> ValueKind:
    """A boolean: true or false, yes or no, on or off, 1 or 0."""

    def read(raw: object) -> bool:
        if isinstance(raw, bool):
            return raw
        if not isinstance(raw, str) or raw.lower() not in SWITCH:
            raise InvalidValue
        return SWITCH[raw.lower()]

    return ValueKind("true or false", read)


def file_path(*, absent: bool = False) -> ValueKind:
    """The path of a file, which may be missing if `absent`. Empty means that none is set."""

    def read(raw: object) -> str:
        if not isinstance(raw, str) or not raw.isprintable():
            raise InvalidValue
        return raw

    return ValueKind("the path of a file", read, path=True, absent=absent)


def folder_path() -> ValueKind:
    """The path of a folder. Empty means that none is set."""
    return replace(file_path(), expected="the path of a folder", folder=True)


def command() -> ValueKind:
    """A program with its arguments: a list, or text that is split like a shell's. May be empty."""

    def read(raw: object) -> tuple[str, ...]:
        words = shlex.split(raw) if isinstance(raw, str) else raw
        if not isinstance(words, list):
            raise InvalidValue
        if not all(isinstance(word, str) and word.isprintable() for word in words):
            raise InvalidValue
        if words and not words[0]:
            raise InvalidValue
        return tuple(words)

    return ValueKind('a program with its arguments, such as ["/opt/token", "--json"]', read, list)


def hidden() -> ValueKind:
    """A secret. Empty means that none is set."""

    def read(raw: object) -> Secret:
        if not isinstance(raw, str):
            raise InvalidValue
        raw.encode()  # raises ValueError for bytes of the environment that are not UTF-8
        return Secret(raw)

    return ValueKind("a string (its value is not shown here)", read, secret=True)


def listed(item: ValueKind, expected: str) -> ValueKind:
    """A list of `item`: a TOML list, or text separated by commas. It may be empty."""

    def read(raw: object) -> tuple[object, ...]:
        if isinstance(raw, str):
            raw = [part.strip() for part in raw.split(",") if part.strip()]
        if not isinstance(raw, list):
            raise InvalidValue
        return tuple(_read_item(item, expected, part) for part in raw)

    def show(values: tuple[object, ...]) -> list[object]:
        return [item.show(value) for value in values]

    return ValueKind(expected, read, show)


def _read_item(item: ValueKind, expected: str, part: object) -> object:
    try:
        return item.read(part)
    except ValueError as error:
        if _has_message(error):
            raise
        message = f"expected {expected}; {shown(part)} is not {item.expected}"
        raise InvalidValue(message) from None


def explain(kind: ValueKind, raw: object, error: ValueError) -> str:
    """Say why reading `raw` raised `error`: its own message, or what the kind expects."""
    if _has_message(error):
        return str(error)
    return f"expected {kind.expected}" + ("" if kind.secret else f"; got {shown(raw)}")


def _has_message(error: ValueError) -> bool:
    """Whether the message is meant for users; that of any other ValueError is not."""
    return isinstance(error, InvalidValue) and bool(error.args)


def shown(raw: object) -> str:
    """Quote a value for a message: short, on one line, and without user info of a URL."""
    if isinstance(raw, bool):
        return str(raw).lower()
    if isinstance(raw, dict):
        return "a table"
    if isinstance(raw, list):
        return "[" + ", ".join(map(shown, raw[:3])) + (", …]" if len(raw) > 3 else "]")
    if not isinstance(raw, str):
        return str(raw)
    # Up to the last "@": a password that contains "/" or "?" would end the authority of the URL.
    plain = re.sub(r"(?s)^([a-z0-9+.-]*://)?.*@", r"\1…@", raw)
    plain = "".join(char if char.isprintable() else "�" for char in plain)
    return '"' + (plain if len(plain) <= 60 else plain[:59] + "…") + '"'
