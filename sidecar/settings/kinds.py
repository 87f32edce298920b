"""What one setting's value may be: a `Kind` reads it and shows it, and says what it expects.

A reader takes what a source gave (text from the environment or a flag, any TOML value from the
file) and returns the value or raises ValueError; `Refused` says more than the kind's `expected`.
Knows nothing of sources, names or other settings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from sidecar.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

UNITS: Final = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}  # seconds
TOKEN: Final = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # RFC 9110 section 5.6.2
SIZES: Final = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10}  # bytes
LONGEST: Final = 3650 * UNITS["d"]
SWITCH: Final = {"true": True, "yes": True, "on": True, "1": True} | dict.fromkeys(
    ("false", "no", "off", "0"), False
)

_NUMBER: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")
_DURATION: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)")
_SIZE: Final = re.compile(r"([0-9]{1,12}) ?(KiB|MiB|GiB)?")
_WHOLE: Final = re.compile(r"[0-9]{1,12}")


class Unfit(ValueError):
    """The value is not of this kind; what was expected is for the kind to say."""


class Refused(Unfit):
    """The same, in words that take the place of the kind's `expected`."""


def _as_it_is(value: Any) -> object:
    return value


@dataclass(frozen=True, slots=True)
class Kind:
    """One sort of value. `empty`: the empty text is a value, not an absence."""

    expected: str
    read: Callable[[object], object]
    show: Callable[[Any], object] = _as_it_is  # what TOML can hold; `read` takes it back
    empty: bool = False
    path: bool = False  # names a file, which stands relative to the file that names it
    absent: bool = False  # of such a path: the file may be missing, and then there is nothing in it
    folder: bool = False  # of such a path: it names a folder, which need not be there yet
    secret: bool = False  # neither the value nor its text is ever shown


def text(expected: str = "a text that is not empty", *, empty: bool = False) -> Kind:
    """Printable text on one line."""

    def read(raw: object) -> str:
        if not isinstance(raw, str) or not (raw or empty) or not raw.isprintable():
            raise Unfit
        return raw

    return Kind(expected, read, empty=empty)


def matching(pattern: str, expected: str) -> Kind:
    """Printable text that matches a regular expression as a whole."""

    def read(raw: object) -> str:
        if not isinstance(raw, str) or not re.fullmatch(pattern, raw) or not raw.isprintable():
            raise Unfit
        return raw

    return Kind(expected, read)


def choice(*words: str) -> Kind:
    """One of these words."""

    def read(raw: object) -> str:
        if raw not in words:
            raise Unfit
        return str(raw)

    return Kind("one of " + ", ".join(word or '""' for word in words), read, empty="" in words)


def integer(least: int, most: int) -> Kind:
    """A whole number, both bounds included."""

    def read(raw: object) -> int:
        if isinstance(raw, str) and _WHOLE.fullmatch(raw):
            raw = int(raw)
        if not isinstance(raw, int) or isinstance(raw, bool) or not least <= raw <= most:
            raise Unfit
        return raw

    return Kind(f"a whole number {least}–{most}", read)  # noqa: RUF001 — a range is written so


def size(least: int, most: int) -> Kind:
    """A number of bytes: 32768 or 32KiB."""

    def read(raw: object) -> int:
        if isinstance(raw, str) and (found := _SIZE.fullmatch(raw)):
            raw = int(found[1]) * SIZES.get(found[2] or "", 1)
        if not isinstance(raw, int) or isinstance(raw, bool) or not least <= raw <= most:
            raise Unfit
        return raw

    return Kind(f"a size such as 32768 or 32KiB, from {least} to {most} bytes", read)


def duration(least: str = "0", most: str = "3650d") -> Kind:
    """A time in seconds, both bounds included."""
    low, high = seconds(least), seconds(most)

    def read(raw: object) -> float:
        value = seconds(raw)
        if not low <= value <= high:
            raise Unfit
        return value

    bounds = f", from {least} to {most}" if (low, high) != (0.0, LONGEST) else ""
    return Kind(f"a duration such as 15m, 12h, 7d, 900 or 100ms{bounds}", read, show_seconds)


def seconds(raw: object) -> float:
    """`15m 12h 7d 900 100ms` (or a TOML number) as seconds, to the millisecond. Raises Unfit."""
    if isinstance(raw, bool):
        raise Unfit
    written = str(raw) if isinstance(raw, int | float) else raw
    if not isinstance(written, str):
        raise Unfit
    if _NUMBER.fullmatch(written):
        return round(float(written), 3)
    found = _DURATION.fullmatch(written)
    if not found:
        raise Unfit
    return round(float(found[1]) * UNITS[found[2]], 3)


def show_seconds(value: float) -> object:
    """The shortest exact way to write a time: 900.0 → "15m"."""
    millis = round(value * 1000)
    for unit, length in UNITS.items():
        count, rest = divmod(millis, round(length * 1000))
        if count and not rest:
            return f"{count}{unit}"
    return value or 0


def switch() -> Kind:
    """Yes or no."""

    def read(raw: object) -> bool:
        if isinstance(raw, bool):
            return raw
        if not isinstance(raw, str) or raw.lower() not in SWITCH:
            raise Unfit
        return SWITCH[raw.lower()]

    return Kind("true or false", read)


def file_path(*, absent: bool = False) -> Kind:
    """The path of a file, which may be missing where it may be `absent`; empty means none."""

    def read(raw: object) -> str:
        if not isinstance(raw, str) or not raw.isprintable():
            raise Unfit
        return raw

    return Kind("the path of a file", read, empty=True, path=True, absent=absent)


def folder_path() -> Kind:
    """The path of a folder; empty means none."""
    return replace(file_path(), expected="the path of a folder", folder=True)


def hidden() -> Kind:
    """A secret; empty means none."""

    def read(raw: object) -> Secret:
        if not isinstance(raw, str):
            raise Unfit
        raw.encode()  # raises on what the environment could not decode
        return Secret(raw)

    return Kind("a text (its value is not shown here)", read, empty=True, secret=True)


def listed(item: Kind, several: str) -> Kind:
    """A list of them: a TOML list, or text with commas between. Empty is a value."""

    def read(raw: object) -> tuple[object, ...]:
        if isinstance(raw, str):
            raw = [part.strip() for part in raw.split(",") if part.strip()]
        if not isinstance(raw, list):
            raise Unfit
        return tuple(_read_item(item, several, part) for part in raw)

    def show(values: tuple[object, ...]) -> list[object]:
        return [item.show(value) for value in values]

    return Kind(several, read, show, empty=True)


def _read_item(item: Kind, several: str, part: object) -> object:
    try:
        return item.read(part)
    except Refused:
        raise
    except ValueError:
        raise Refused(f"expected {several}; {shown(part)} is not {item.expected}") from None


def shown(raw: object) -> str:
    """A value as a problem quotes it: short, on one line, without what may be a URL's user info."""
    if isinstance(raw, bool):
        return str(raw).lower()
    if isinstance(raw, dict):
        return "a table"
    if isinstance(raw, list):
        return "[" + ", ".join(map(shown, raw[:3])) + (", …]" if len(raw) > 3 else "]")
    if not isinstance(raw, str):
        return str(raw)
    # Up to the last "@", for a password with "/" or "?" in it ends the authority of the URL.
    plain = re.sub(r"(?s)^([a-z0-9+.-]*://)?.*@", r"\1…@", raw)
    plain = "".join(char if char.isprintable() else "�" for char in plain)
    return '"' + (plain if len(plain) <= 60 else plain[:59] + "…") + '"'
