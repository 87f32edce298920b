"""Denials in this process' memory: all that a pod alone has, and what holds while Redis is away.

Bounded. Does no I/O and never waits; knows nothing of Redis.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sidecar.auth.denylist import EVERYTHING, Revocation, RevocationKind, revocation_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sidecar.auth.denylist import RevocableToken
    from sidecar.auth.session import Session


class RevocationTable:
    """At most `limit` denials; those that hold no longer go first, then the oldest.

    `clock` gives seconds since the epoch.
    """

    __slots__ = ("_clock", "_limit", "_table", "dropped")

    def __init__(self, clock: Callable[[], float], limit: int = 100_000) -> None:
        self._clock = clock
        self._limit = limit
        self._table: dict[str, Revocation] = {}
        self.dropped = 0  # for want of room, while they still held

    def __repr__(self) -> str:
        return f"<RevocationTable {len(self._table)}, {self.dropped} dropped>"

    def __len__(self) -> int:
        return len(self._table)

    def add(self, name: str, revocation: Revocation) -> None:
        """One more; of one name, the one that denies more counts."""
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
        """Whether this token is denied."""
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
        """All that hold now."""
        now = self._clock()
        return {
            name: revocation for name, revocation in self._table.items() if revocation.until > now
        }

    def _make_room(self, now: float) -> None:
        self._table = {name: one for name, one in self._table.items() if one.until > now}
        if len(self._table) >= self._limit:
            # A tenth at once, so that the pass above is paid for by many additions.
            for name in list(self._table)[: -(-self._limit // 10)]:
                del self._table[name]
                self.dropped += 1


class OwnTokens:
    """What ends the tokens of a login, or of a user, of ours: nothing, where they need a session.

    `issuer` is ours if our tokens count unless denied. Such a denial holds for `max_ttl` seconds;
    times are seconds since the epoch.
    """

    __slots__ = ("_issuer", "_max_ttl")

    def __init__(self, issuer: str | None = None, max_ttl: float = 7 * 86400.0) -> None:
        self._issuer = issuer
        self._max_ttl = max_ttl

    def __repr__(self) -> str:
        return f"<OwnTokens {'need sessions' if self._issuer is None else 'count unless denied'}>"

    def of_logins(self, sids: Iterable[str], now: float) -> dict[str, Revocation]:
        """The denials of these logins."""
        if self._issuer is None:
            return {}
        revocation = Revocation(EVERYTHING, now + self._max_ttl)
        return {
            revocation_name(RevocationKind.SID, self._issuer, sid): revocation
            for sid in sids
            if sid
        }

    def of_user(self, sub: str, before: float, now: float) -> dict[str, Revocation]:
        """The denial of what a user got before a moment.

        Whole seconds, as the tokens' own: who logs in again at once gets a token that counts. Those
        of this very second are ended with their logins.
        """
        if self._issuer is None:
            return {}
        revocation = Revocation(float(math.floor(before)), now + self._max_ttl)
        return {revocation_name(RevocationKind.USER, self._issuer, sub): revocation}


class LocalRevocations:
    """The `Denials` of a pod alone."""

    __slots__ = ("_listener", "_revocations")

    def __init__(self, denied: RevocationTable) -> None:
        self._revocations = denied
        self._listener: Callable[[], None] = _nothing

    def __repr__(self) -> str:
        return f"<LocalRevocations {self._revocations!r}>"

    def peek(self, revocable: RevocableToken) -> Session | None:
        """What stands for the token, unless it is denied."""
        return None if self._revocations.is_revoked(revocable) else revocable.session

    def is_revoked(self, revocable: RevocableToken) -> bool:
        """Whether this token is denied."""
        return self._revocations.is_revoked(revocable)

    async def get(self, revocable: RevocableToken) -> Session | None:
        """As `peek`."""
        return self.peek(revocable)

    async def revoke(self, revocations: Mapping[str, Revocation]) -> None:
        """Deny these, by name."""
        for name, revocation in revocations.items():
            self._revocations.add(name, revocation)
        if revocations:
            self._listener()

    def on_revoked(self, listener: Callable[[], None]) -> None:
        """Call this after every denial."""
        self._listener = listener


def _nothing() -> None:
    """Nobody listens."""
