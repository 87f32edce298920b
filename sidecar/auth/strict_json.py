"""JSON objects from outside, read without the library's leniency (RFC 8259, RFC 8725 section 3.7).

UTF-8 only, no member twice, no NaN or Infinity, no lone surrogate: what two readers could take for
two different objects is no object here.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is there twice")
    return members


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number out of range")
    return number


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


MAX_DEPTH: Final = 32  # of objects and lists in each other, so that whoever writes them again can

_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant
)


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
    return any(isinstance(node, dict | list) for node in level)


def parse_object(raw: bytes) -> dict[str, Any] | None:
    """The JSON object that these bytes are, or None. Never raises, whatever they are."""
    try:
        text = raw.decode("utf-8")
        value = _DECODER.decode(text)
        if text.count("[") + text.count("{") > MAX_DEPTH and _is_deep(value):
            return None
        if "\\u" in text:  # an escape may have made half a character, which no encoder takes
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_again(raw: bytes) -> dict[str, Any]:
    """The object that these bytes are: `parse_object` took them, or an encoder made them."""
    members: dict[str, Any] = json.loads(raw)
    return members
