"""Parses untrusted JSON more strictly than the library (RFC 8259, RFC 8725 section 3.7).

It rejects encodings other than UTF-8, duplicate members, NaN, Infinity and lone surrogates: another
parser could read such a document differently.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member appears twice")
    return members


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is out of range")
    return number


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


MAX_DEPTH: Final = 32  # of nested objects and lists, which any JSON encoder can write again

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
    """Parse a JSON object from untrusted bytes; None if they are not one. Never raises."""
    try:
        text = raw.decode("utf-8")
        value = _DECODER.decode(text)
        if text.count("[") + text.count("{") > MAX_DEPTH and _is_deep(value):
            return None
        if "\\u" in text:  # an escape may produce a lone surrogate, which cannot be encoded
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def parse_trusted(raw: bytes) -> dict[str, Any]:
    """Parse a JSON object that `parse_object` has accepted before, or that an encoder wrote."""
    members: dict[str, Any] = json.loads(raw)
    return members
