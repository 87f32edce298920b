"""Revocations in this process's memory: all that a single pod has, and what holds without Redis.

Bounded. Does no I/O and never waits. Pure; knows nothing of Redis.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sidecar.auth.denylist import RevocationKind, revocation_name
from sidecar.auth.revocation import EVERYTHING, Revocation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sidecar.auth.denylist import RevocableToken
    from sidecar.auth.session import Session


class RevocationTable:
    """At most `limit` revocations, by name. `clock` returns seconds since the epoch.

    A full table evicts expired revocations first, then the oldest.
    """

    __slots__ = ("_clock", "_limit", "_table", "dropped")

    def __init__(self, clock: Callable[[], float], limit: int = 100_000) -> None:
        self._clock = clock
        self._limit = limit
        self._table: dict[str, Revocation] = {}
        self.dropped = 0  # evicted before they expired

    def __repr__(self) -> str:
        return f"<RevocationTable {len(self._table)}, {self.dropped} dropped>"

    def __len__(self) -> int:
        return len(self._table)

    def add(self, name: str, revocation: Revocation) -> None:
        """Add a revocation. Of two under one name, whatever either revokes is revoked."""
        now = self._clock()
        if revocation.until <= now:
            return
        known = self._table.get(name)
        if known is not None and known.until > now:
            revocation = known.joined(revocation)
        elif len(self._table) >= self._limit:
            self._make_room(now)
        self._table[name] = revocation

    def is_revoked(self, revocable: RevocableToken) -> bool:
        """Whether this token is revoked."""
        now = self._clock()
        for name in revocable.names:
            revocation = self._table.get(name)
            if (
                revocation is not None
                and revocation.until > now
                and revocable.issued < revocation.before
            ):
                return True
        return False

    def in_force(self) -> dict[str, Revocation]:
        """All revocations that have not expired."""
        now = self._clock()
        return {
            name: revocation for name, revocation in self._table.items() if revocation.until > now
        }

    def _make_room(self, now: float) -> None:
        self._table = {name: held for name, held in self._table.items() if held.until > now}
        if len(self._table) >= self._limit:
            # A tenth at once, which spreads the cost of the pass above over many additions.
            for name in list(self._table)[: -(-self._limit // 10)]:
                del self._table[name]
                self.dropped += 1


class OwnTokens:
    """Makes the revocations that end the tokens of one of this issuer's own logins or users.

    `issuer` is this sidecar's own, or None if its tokens need a session: then there is nothing to
    revoke. A revocation lasts `max_ttl` seconds. Times are seconds since the epoch.
    """

    __slots__ = ("_issuer", "_max_ttl")

    def __init__(self, issuer: str | None = None, max_ttl: float = 7 * 86400.0) -> None:
        self._issuer = issuer
        self._max_ttl = max_ttl

    def __repr__(self) -> str:
        return f"<OwnTokens {'need sessions' if self._issuer is None else 'count unless revoked'}>"

    def of_logins(self, sids: Iterable[str], now: float) -> dict[str, Revocation]:
        """The revocations of these logins, by name."""
        if self._issuer is None:
            return {}
        revocation = Revocation(EVERYTHING, now + self._max_ttl)
        return {
            revocation_name(RevocationKind.SID, self._issuer, sid): revocation
            for sid in sids
            if sid
        }

    def of_user(self, sub: str, before: float, now: float) -> dict[str, Revocation]:
        """The revocation of every token that a user got before a time, by name.

        The time is cut to whole seconds, like the tokens' own, so that a user who logs in again at
        once gets a token that counts. Tokens of that same second are revoked with their logins.
        """
        if self._issuer is None:
            return {}
        revocation = Revocation(float(math.floor(before)), now + self._max_ttl)
        return {revocation_name(RevocationKind.USER, self._issuer, sub): revocation}


class LocalRevocations:
    """The `RevocationStore` of a single pod, on a table in memory."""

    __slots__ = ("_listener", "_table")

    def __init__(self, table: RevocationTable) -> None:
        self._table = table
        self._listener: Callable[[], None] = _ignore

    def __repr__(self) -> str:
        return f"<LocalRevocations {self._table!r}>"

    def peek(self, revocable: RevocableToken) -> Session | None:
        """The token's session, unless the token is revoked."""
        return None if self._table.is_revoked(revocable) else revocable.session

    def is_revoked(self, revocable: RevocableToken) -> bool:
        """Whether this token is revoked."""
        return self._table.is_revoked(revocable)

    async def get(self, revocable: RevocableToken) -> Session | None:
        """The token's session, unless the token is revoked."""
        return self.peek(revocable)

    async def revoke(self, revocations: Mapping[str, Revocation]) -> None:
        """Record these revocations, by name."""
        for name, revocation in revocations.items():
            self._table.add(name, revocation)
        if revocations:
            self._listener()

    def set_listener(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever revocations were recorded."""
        self._listener = listener


def _ignore() -> None:
    """The listener until one is set."""
