"""A bounded map from the SHA-256 of a credential to whatever was made of it.

Knows nothing of tokens: callers put only what they have verified, and drop all of it when keys
change. The digest stands for the credential, so that none is kept here and no two share an entry.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Generic, Protocol, TypeVar

# An entry (claims, identity lines, what the gate made of them) takes about 1.3 KB. A credential
# beyond that many costs its verification again.
DEFAULT_SIZE: Final = 8192

_LOOKED_AT: Final = (
    2  # old entries for each new one: those that have ended are never the greater half
)


class Ending(Protocol):
    """What is good until a moment, in seconds since the epoch."""

    until: float


V = TypeVar("V", bound=Ending)


class TokenCache(Generic[V]):
    """At most `size` entries. What has ended goes first, then what was not looked at for longest.

    Neither looking up nor making room ever walks over all. `entries` is for the caller to look up
    in, and to change by `put` alone.
    """

    __slots__ = ("_order", "_size", "entries")

    def __init__(self, size: int = DEFAULT_SIZE) -> None:
        self._size = max(size, 1)
        self._order: deque[bytes] = deque()
        self.entries: dict[bytes, V] = {}

    def __repr__(self) -> str:
        return f"<TokenCache {len(self)} of {self._size}>"

    def __len__(self) -> int:
        return len(self.entries)

    def put(self, digest: bytes, entry: V, now: float) -> None:
        """Keep this entry, and let go of others if there are too many."""
        entries, order = self.entries, self._order
        if digest not in entries:
            for _ in range(min(_LOOKED_AT, len(order))):
                if entries[order[0]].until <= now:
                    del entries[order.popleft()]
                else:
                    order.rotate(-1)
            while len(order) >= self._size:
                del entries[order.popleft()]
            order.append(digest)
        entries[digest] = entry

    def clear(self) -> None:
        """Forget everything."""
        self.entries.clear()
        self._order.clear()
