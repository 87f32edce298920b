"""A secret value that cannot leak by accident: it is masked in text and cannot be serialised.

Only `reveal()` returns the text; call it at the line that needs the text.
"""

from __future__ import annotations

import hmac
from typing import Final, NoReturn, final

MASK: Final = "***"


@final
class Secret:
    """A secret text, compared in constant time. It is false when empty. Do not modify it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the secret text."""
        return self._text

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._octets(), other._octets())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")

    def _octets(self) -> bytes:
        return self._text.encode("utf-8", "surrogatepass")
