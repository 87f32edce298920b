"""Denials in this process' memory: all that a pod alone has, and what holds while Redis is away.

Bounded. Does no I/O and never waits; knows nothing of Redis.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sidecar.auth.denial import EVERYTHING, Denial, Kind, denial_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sidecar.auth.denial import Claimed
    from sidecar.auth.session import Session


class Denied:
    """At most `limit` denials; those that hold no longer go first, then the oldest.

    `clock` gives seconds since the epoch.
    """

    __slots__ = ("_clock", "_limit", "_table", "dropped")

    def __init__(self, clock: Callable[[], float], limit: int = 100_000) -> None:
        self._clock = clock
        self._limit = limit
        self._table: dict[str, Denial] = {}
        self.dropped = 0  # for want of room, while they still held

    def __repr__(self) -> str:
        return f"<Denied {len(self._table)}, {self.dropped} dropped>"

    def __len__(self) -> int:
        return len(self._table)

    def add(self, name: str, denial: Denial) -> None:
        """One more; of one name, the one that denies more counts."""
        now = self._clock()
        if denial.until <= now:
            return
        known = self._table.get(name)
        if known is not None and known.until > now:
            denial = known.joined(denial)
        elif len(self._table) >= self._limit:
            self._make_room(now)
        self._table[name] = denial

    def covers(self, claimed: Claimed) -> bool:
        """Whether this token is denied."""
        now = self._clock()
        for name in claimed.names:
            denial = self._table.get(name)
            if denial is not None and denial.until > now and claimed.issued < denial.before:
                return True
        return False

    def in_force(self) -> dict[str, Denial]:
        """All that hold now."""
        now = self._clock()
        return {name: denial for name, denial in self._table.items() if denial.until > now}

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

    def of_logins(self, sids: Iterable[str], now: float) -> dict[str, Denial]:
        """The denials of these logins."""
        if self._issuer is None:
            return {}
        denial = Denial(EVERYTHING, now + self._max_ttl)
        return {denial_name(Kind.SID, self._issuer, sid): denial for sid in sids if sid}

    def of_user(self, sub: str, before: float, now: float) -> dict[str, Denial]:
        """The denial of what a user got before a moment.

        Whole seconds, as the tokens' own: who logs in again at once gets a token that counts. Those
        of this very second are ended with their logins.
        """
        if self._issuer is None:
            return {}
        denial = Denial(float(math.floor(before)), now + self._max_ttl)
        return {denial_name(Kind.USER, self._issuer, sub): denial}


class LocalDenials:
    """The `Denials` of a pod alone."""

    __slots__ = ("_denied", "_listener")

    def __init__(self, denied: Denied) -> None:
        self._denied = denied
        self._listener: Callable[[], None] = _nothing

    def __repr__(self) -> str:
        return f"<LocalDenials {self._denied!r}>"

    def peek(self, claimed: Claimed) -> Session | None:
        """What stands for the token, unless it is denied."""
        return None if self._denied.covers(claimed) else claimed.session

    def covers(self, claimed: Claimed) -> bool:
        """Whether this token is denied."""
        return self._denied.covers(claimed)

    async def get(self, claimed: Claimed) -> Session | None:
        """As `peek`."""
        return self.peek(claimed)

    async def deny(self, denials: Mapping[str, Denial]) -> None:
        """Deny these, by name."""
        for name, denial in denials.items():
            self._denied.add(name, denial)
        if denials:
            self._listener()

    def on_denied(self, listener: Callable[[], None]) -> None:
        """Call this after every denial."""
        self._listener = listener


def _nothing() -> None:
    """Nobody listens."""
