"""A bounded cache from the SHA-256 of a credential to the result of verifying it.

Callers put only verified credentials, and clear the cache when keys change. The digest replaces the
credential: no credential is kept here, and no two share an entry. Knows nothing of tokens.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Generic, Protocol, TypeVar

# A credential that does not fit into the cache is verified again for each request.
DEFAULT_SIZE: Final = 8192

# Octets for each of `size` entries, shared by all. An entry (claims, identity lines, the gate's
# decision) usually takes 1.3 to 1.8 KB, but that of a token with hundreds of groups 60 KB.
OCTETS: Final = 2048

# Old entries checked for each new one, so expired entries never become the majority.
_CHECKED: Final = 2


class Expiring(Protocol):
    """A cache entry. It is valid until `until`, in seconds since the epoch.

    `octets` is about what it takes in memory.
    """

    until: float
    octets: int


V = TypeVar("V", bound=Expiring)


class TokenCache(Generic[V]):
    """Holds at most `size` entries, and no more than 2 KiB for each of them together.

    Drops expired entries first, then those checked longest ago; the newest always stays. Neither a
    look-up nor an eviction walks over all entries. Callers look up in `entries`, and change it only
    through `put` and `clear`.
    """

    __slots__ = ("_left", "_order", "_size", "entries")

    def __init__(self, size: int = DEFAULT_SIZE) -> None:
        self._size = max(size, 1)
        self._order: deque[tuple[bytes, int]] = deque()  # digests, and octets when they were put
        self._left = self._size * OCTETS
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
                if entries[order[0][0]].until <= now:
                    self._drop_first()
                else:
                    order.rotate(-1)
            self._left -= entry.octets
            while order and (self._left < 0 or len(order) >= self._size):
                self._drop_first()
            order.append((digest, entry.octets))
        entries[digest] = entry

    def clear(self) -> None:
        """Drop all entries."""
        self.entries.clear()
        self._order.clear()
        self._left = self._size * OCTETS

    def _drop_first(self) -> None:
        digest, octets = self._order.popleft()
        self._left += octets
        del self.entries[digest]
