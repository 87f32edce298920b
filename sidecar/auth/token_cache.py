"""A bounded cache from the SHA-256 of a credential to the result of verifying it.

Callers put only verified credentials, and clear the cache when keys change. The digest replaces the
credential: no credential is kept here, and no two share an entry. Knows nothing of tokens.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Generic, Protocol, TypeVar

# An entry (claims, identity lines, the gate's decision) takes about 1.3 KB. A credential that does
# not fit into the cache is verified again for each request.
DEFAULT_SIZE: Final = 8192

# Old entries checked for each new one, so expired entries never become the majority.
_CHECKED: Final = 2


class Expiring(Protocol):
    """A cache entry. It is valid until `until`, in seconds since the epoch."""

    until: float


V = TypeVar("V", bound=Expiring)


class TokenCache(Generic[V]):
    """Holds at most `size` entries. Drops expired entries first, then those checked longest ago.

    Neither a look-up nor an eviction walks over all entries. Callers look up in `entries`, and
    change it only through `put` and `clear`.
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
        """Add or replace an entry; drop other entries if there are too many."""
        entries, order = self.entries, self._order
        if digest not in entries:
            for _ in range(min(_CHECKED, len(order))):
                if entries[order[0]].until <= now:
                    del entries[order.popleft()]
                else:
                    order.rotate(-1)
            while len(order) >= self._size:
                del entries[order.popleft()]
            order.append(digest)
        entries[digest] = entry

    def clear(self) -> None:
        """Drop all entries."""
        self.entries.clear()
        self._order.clear()
