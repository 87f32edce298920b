"""Remembers the parsed headers of tokens that have verified. Pure.

An issuer's tokens have the same header until it signs with another key. Knows neither keys nor what
a header means: its octets have one reading, in a forged token as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sidecar.auth.compact import decode_part
from sidecar.auth.strict_json import parse_object

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEPT: Final = 64  # headers: issuers have one or two each
_OCTETS: Final = 1024  # of one, encoded; one with a chain of certificates has more


class KnownHeaders:
    """Parses headers, each that was remembered only once.

    Callers remember the header of a token only after its signature was verified. What is kept was
    therefore written by issuers: invented headers neither fill this nor push anything out of it.
    """

    __slots__ = ("_parsed",)

    def __init__(self) -> None:
        self._parsed: dict[bytes, Mapping[str, Any]] = {}

    def __repr__(self) -> str:
        return f"<KnownHeaders {len(self._parsed)}>"

    def parse(self, part: bytes) -> Mapping[str, Any] | None:
        """Return the header in the first part of a token; None if it is malformed."""
        known = self._parsed.get(part)
        if known is not None:
            return known
        raw = decode_part(part)
        return None if raw is None else parse_object(raw)

    def remember(self, part: bytes, header: Mapping[str, Any]) -> None:
        """Remember what `parse` returned for this part of a verified token."""
        if len(part) > _OCTETS or part in self._parsed:
            return
        # An issuer that writes another header into each token fills this; all begin anew then, as
        # each header that is in use returns with its next token.
        if len(self._parsed) >= _KEPT:
            self._parsed.clear()
        self._parsed[part] = header
