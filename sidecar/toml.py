"""TOML texts within the bounds of TOML 1.0; what the library lets through beyond them is refused.

Knows nothing of what is written in them.
"""

from __future__ import annotations

import tomllib
from typing import Any, Final

_INTEGERS: Final = range(-(1 << 63), 1 << 63)


def parse_toml(text: str) -> dict[str, Any]:
    """The document that this text is. Raises ValueError, with a reason for people to read."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:  # more digits than Python reads
        raise ValueError("a whole number is larger than 64 bits") from None
    except RecursionError:
        raise ValueError("lists or tables are nested too deep") from None
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
