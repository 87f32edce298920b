"""Parses TOML 1.0. Rejects input beyond its limits that the standard library accepts.

Knows nothing of what the documents mean.
"""

from __future__ import annotations

import tomllib
from typing import Any, Final

# Levels of lists and tables: fewer than a token may have, so claims from a file fit into one.
# Dotted keys nest without recursion in the parser, and would exhaust an encoder's stack later.
MAX_DEPTH: Final = 16
_DEEP: Final = "lists or tables are nested too deeply"
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
        raise ValueError(_DEEP) from None
    left: list[tuple[object, int]] = [(document, 0)]
    while left:
        value, depth = left.pop()
        if isinstance(value, dict | list):
            if depth == MAX_DEPTH:
                raise ValueError(_DEEP)
            children = value.values() if isinstance(value, dict) else value
            left.extend((child, depth + 1) for child in children)
        elif isinstance(value, int) and value not in _INTEGERS:
            raise ValueError("a whole number is larger than 64 bits")
    return document
