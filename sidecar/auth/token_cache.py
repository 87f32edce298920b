"""A bounded map from the SHA-256 of a credential to whatever was made of it.

Knows nothing of tokens: callers put only what they have verified, and drop all of it when keys
change. The digest stands for the credential, so that none is kept here and no two share an entry.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

# An entry (claims, identity lines, what the gate made of them) takes about 3 KiB, so all of them 24
# MiB: more tokens than one pod sees within their lifetime. One beyond that costs its verification
# again.
DEFAULT_SIZE: Final = 8192

V = TypeVar("V")


class TokenCache(Generic[V]):
    """At most `size` entries; a full young half grows old, and what was old and unasked for goes.

    Thus an entry in use stays, and neither looking up nor making room ever walks over the others.
    `young` is for the caller to look up first; what is not there is had by `get`.
    """

    __slots__ = ("_half", "_old", "young")

    def __init__(self, size: int = DEFAULT_SIZE) -> None:
        self._half = max(size // 2, 1)
        self.young: dict[bytes, V] = {}
        self._old: dict[bytes, V] = {}

    def __repr__(self) -> str:
        return f"<TokenCache {len(self)} of {2 * self._half}>"

    def __len__(self) -> int:
        return len(self.young) + len(self._old)

    def get(self, digest: bytes) -> V | None:
        """The entry under this digest, which is thereby young again."""
        entry = self.young.get(digest)
        if entry is None:
            entry = self._old.pop(digest, None)
            if entry is not None:
                self.put(digest, entry)
        return entry

    def put(self, digest: bytes, entry: V) -> None:
        """Keep this entry, and let go of the oldest if there are too many."""
        if len(self.young) >= self._half and digest not in self.young:
            self.young, self._old = {}, self.young
        self._old.pop(digest, None)
        self.young[digest] = entry

    def clear(self) -> None:
        """Forget everything."""
        self.young, self._old = {}, {}
