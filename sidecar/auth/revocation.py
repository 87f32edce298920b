"""A stored revocation, and its JSON form. Pure data; knows neither tokens nor names."""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.auth.session import FOREVER

EVERYTHING: Final = FOREVER + 1.0  # later than any date that a token can have


class Revocation(msgspec.Struct, frozen=True):
    """Refuses what was issued before `before`; expires at `until`. Seconds since the epoch."""

    before: float
    until: float

    def joined(self, other: Revocation) -> Revocation:
        """Return one revocation that refuses everything either of the two refuses."""
        return Revocation(max(self.before, other.before), max(self.until, other.until))


UNREADABLE: Final = Revocation(EVERYTHING, 0.0)  # refuses everything, and is not remembered

_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Revocation)


def encode_revocation(revocation: Revocation) -> bytes:
    """Return the value to store under the revocation's name."""
    return _ENCODER.encode(revocation)


def decode_revocation(value: bytes) -> Revocation:
    """Return the revocation in a stored value; an unreadable value refuses everything."""
    try:
        return _DECODER.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return UNREADABLE
