"""Parses TOML 1.0. Rejects input beyond its limits that the standard library accepts.

Knows nothing of what the documents mean.
"""

from __future__ import annotations

import tomllib
from typing import Any, Final

_INTEGERS: Final = range(-(1 << 63), 1 << 63)


def parse_toml(text: str) -> dict[str, Any]:
    """Parse a TOML document. Raises ValueError with a readable reason if it is invalid."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:  # more digits than Python converts to a number
        raise ValueError("a whole number is larger than 64 bits") from None
    except RecursionError:
        raise ValueError("lists or tables are nested too deeply") from None
    left: list[object] = [document]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
        elif isinstance(value, int) and value not in _INTEGERS:
            raise ValueError("a whole number is larger than 64 bits")
    return document
