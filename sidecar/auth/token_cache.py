"""A bounded cache from the SHA-256 of a credential to the result of verifying it, in two segments.

What is used once stays in a small *probation* segment, what is used again is *protected*. Clients
that get a token for each call push out nobody else's then. Callers put only verified credentials,
and clear the cache when keys change. The digest replaces the credential: no credential is kept
here, and no two share an entry. Knows nothing of tokens. Why so: "Memory" in docs/architecture.md.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final, Generic, Protocol, TypeVar

from sidecar.auth.doorkeeper import Doorkeeper

# A credential that does not fit into the cache is verified again for each request.
DEFAULT_SIZE: Final = 8192

# Octets for each of `size` entries, shared by all. An entry (claims, identity lines, the gate's
# decision) usually takes 1.3 to 2 KB, but that of a token with hundreds of groups 60 KB.
OCTETS: Final = 2048

# The part of `size` for entries on probation. A page's requests follow each other closely, so few
# tokens leave this segment before their second use; those that do are verified twice.
SHARE: Final = 32

# Old entries checked for each new one, so expired entries never become the majority.
_CHECKED: Final = 2
_HASHED: Final = 8  # octets of a digest that tell whether it was seen before


class Expiring(Protocol):
    """A cache entry. It is valid until `until`, in seconds since the epoch.

    `octets` is about what it takes in memory, and stays the same while it is in the cache.
    """

    until: float
    octets: int


V = TypeVar("V", bound=Expiring)


class TokenCache(Generic[V]):
    """Holds at most `size` entries (at least two), and 2 KiB for each of them together.

    Callers look up in `entries`, which has the protected ones, and then with `find`; so a hit costs
    one look-up in a dict, and writes nothing. The protected entry checked longest ago makes room
    for another one. It is on probation again, so it returns if it is used soon.
    """

    __slots__ = (
        *("_doorkeeper", "_left", "_left_on_probation", "_most_on_probation", "_order"),
        *("_probation", "_size", "entries"),
    )

    def __init__(self, size: int = DEFAULT_SIZE) -> None:
        self._size = max(size, 2)
        self._most_on_probation = max(self._size // SHARE, 1)
        self._doorkeeper = Doorkeeper(self._size)
        self._order: deque[bytes] = deque()  # digests of `entries`, the next one to go first
        self._probation: OrderedDict[bytes, V] = OrderedDict()
        self.entries: dict[bytes, V] = {}
        self._left = self._left_on_probation = 0  # octets
        self.clear()

    def __repr__(self) -> str:
        return f"<TokenCache {len(self)} of {self._size}>"

    def __len__(self) -> int:
        return len(self.entries) + len(self._probation)

    def find(self, digest: bytes) -> V | None:
        """Return an entry of either segment. It is protected from now on."""
        entry = self.entries.get(digest)
        if entry is None:
            entry = self._probation.pop(digest, None)
            if entry is not None:
                self._left_on_probation += entry.octets
                self._protect(digest, entry)
        return entry

    def put(self, digest: bytes, entry: V, now: float) -> None:
        """Add or replace an entry; drop other entries if there are too many."""
        entries, order = self.entries, self._order
        for _ in range(min(_CHECKED, len(order))):
            if entries[order[0]].until <= now:
                self._remove_first()
            else:
                order.rotate(-1)
        replaced = self.find(digest)
        if replaced is not None:
            self._left += replaced.octets - entry.octets
            entries[digest] = entry
            self._make_room(self._size)
        elif self._seen_before(digest):
            self._protect(digest, entry)
        else:
            self._put_on_probation(digest, entry)

    def clear(self) -> None:
        """Drop all entries."""
        self.entries.clear()
        self._order.clear()
        self._probation.clear()
        octets = self._size * OCTETS
        self._left_on_probation = octets // SHARE
        self._left = octets - self._left_on_probation

    def _seen_before(self, digest: bytes) -> bool:
        return self._doorkeeper.admits(int.from_bytes(digest[:_HASHED], "little"))

    def _protect(self, digest: bytes, entry: V) -> None:
        self._left -= entry.octets
        self._make_room(self._size - self._most_on_probation - 1)
        self._order.append(digest)
        self.entries[digest] = entry

    def _make_room(self, most: int) -> None:
        """Keep at most this many protected entries, and few enough for the octets that are left."""
        order = self._order
        while len(order) > most or (self._left < 0 and order):
            oldest = order[0]
            demoted = self._remove_first()
            self._seen_before(oldest)  # so that it returns at once if it is dropped meanwhile
            self._put_on_probation(oldest, demoted)

    def _put_on_probation(self, digest: bytes, entry: V) -> None:
        probation = self._probation
        self._left_on_probation -= entry.octets
        while probation and (
            self._left_on_probation < 0 or len(probation) >= self._most_on_probation
        ):
            _, dropped = probation.popitem(last=False)
            self._left_on_probation += dropped.octets
        probation[digest] = entry

    def _remove_first(self) -> V:
        entry = self.entries.pop(self._order.popleft())
        self._left += entry.octets
        return entry
