"""One revocation as the journal keeps it. Pure data.

Its JSON form is on disk: the field names and values there must stay readable.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class EntryKind(StrEnum):
    """What an entry's `name` identifies."""

    SESSION = "sid"  # a login
    TOKEN = "token"  # a token id
    USER = "user"  # a user, all of whose logins ended
    REVOCATION = "denial"  # a revocation in the denylist; the value is the word on disk


class Entry(msgspec.Struct, frozen=True):
    """One revocation, made at the time `at`; it matters until `until` (seconds since the epoch).

    A USER entry ends every login that began before `at`. Of a REVOCATION entry, `name` is the
    revocation's name and `at` its `before`.
    """

    kind: EntryKind
    name: str = msgspec.field(name="what")
    at: float
    until: float

    def __repr__(self) -> str:
        return f"<Entry {self.kind}>"
