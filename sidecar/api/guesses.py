"""Limits guesses at login: counts attempts, and decides which of them may compute a hash.

An attempt counts for its address, for its user, and for the two together. Counts are kept here and,
if Redis can be used, for all pods together; the higher one decides. User names and addresses occur
as keyed digests only: a name may be a password that was typed into the wrong field. Whether a user
exists plays no part.
"""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from sidecar.sessions.memory.windows import Count, Entry, WindowTable
from sidecar.telemetry.audit import Event, Origin, Subject, audit
from sidecar.wire.client_address import client_of, parse_address

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FAMILIAR_FOR: Final = 30 * 86400.0  # seconds for which an address stays familiar to a user
# In the queue for password checks, a new address costs 1, and each failure makes that tenfold, so
# that many addresses that have failed do not outweigh a few that have not.
_FAMILIAR_COST: Final = 0.1
_MAX_POWER: Final = 3.0
_DIGEST: Final = 16  # bytes
_UNKNOWN: Final = "unknown"  # all clients without an address are one


class SharedCounters(Protocol):
    """Counters that all pods share. Every method returns None while they cannot be used."""

    async def count(
        self, keys: Sequence[bytes], familiar: bytes, number: int, window: float
    ) -> tuple[list[Count], bool] | None:
        """Add one event to window `number` of each key; also whether `familiar` is marked."""

    async def is_familiar(self, familiar: bytes) -> bool | None:
        """Whether the key is marked."""

    async def forgive(
        self, keys: Sequence[bytes], number: int, window: float, mark: tuple[bytes, float]
    ) -> None:
        """Reset the first key, take one event back from the others, and mark a key."""


class Scope(StrEnum):
    """What a limit counts, as the log names it."""

    USER_ADDRESS = "user_address"
    ADDRESS = "address"
    USER = "user"


@dataclass(frozen=True, slots=True)
class GuessLimits:
    """Failed attempts that are allowed in `window` seconds; 0 turns a limit off.

    `key` is secret: with it, digests can be compared with known names.
    """

    user_address: int = 10
    address: int = 50
    user: int = 100
    window: float = 900.0
    key: bytes = field(default=b"", repr=False)

    @property
    def apply(self) -> bool:
        """Whether there is any limit."""
        return bool(self.user_address or self.address or self.user)


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt to log in: the digests that it counts for, and the client's network."""

    pair: bytes  # of user and address
    address: bytes
    user: bytes
    familiar: bytes  # is marked if this user has logged in from this address before
    client: str
    limits: GuessLimits

    def __repr__(self) -> str:
        return f"<Attempt from {self.client}>"


@dataclass(frozen=True, slots=True)
class Standing:
    """How an attempt that may go on is treated.

    `group` and `cost` are those of its place in the queue, `attempts` the recent ones of its
    address, and `is_slow` says whether it takes the slow lane.
    """

    group: str
    cost: float
    attempts: float
    is_slow: bool


@dataclass(frozen=True, slots=True)
class Blocked:
    """An attempt that may not go on for `wait` seconds."""

    wait: float

    @property
    def retry_after(self) -> int:
        """Whole seconds, at least one."""
        return max(math.ceil(self.wait), 1)


class GuessDefence:
    """Counts attempts and applies limits. `clock` returns seconds since the epoch."""

    __slots__ = ("_clock", "_shared", "_table")

    def __init__(
        self, shared: SharedCounters | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._shared = shared
        self._clock = clock
        self._table = WindowTable()

    def __repr__(self) -> str:
        return f"<GuessDefence {self._table!r}>"

    def attempt(self, name: str, address: str, limits: GuessLimits) -> Attempt:
        """The attempt to log in as `name`, of a client with this address."""
        client = client_of(parse_address(address)) or _UNKNOWN
        whose = name.encode("utf-8", "surrogatepass")
        return Attempt(
            pair=_digest(limits.key, b"pair", client, whose),
            address=_digest(limits.key, b"address", client),
            user=_digest(limits.key, b"user", "", whose),
            familiar=_digest(limits.key, b"familiar", client, whose),
            client=client,
            limits=limits,
        )

    async def look(self, attempt: Attempt) -> Standing | Blocked:
        """What is known of an attempt before it counts. Blocked attempts cost almost nothing."""
        now, window = self._clock(), attempt.limits.window
        pair, address = self._table.find(attempt.pair), self._table.find(attempt.address)
        if (wait := _left(pair, now, window)) > 0.0:
            return Blocked(wait)
        familiar = pair is not None and pair.familiar_until > now
        if (wait := _left(address, now, window)) > 0.0 and not familiar:
            if self._shared is None or not await self._shared.is_familiar(attempt.familiar):
                return Blocked(wait)
            familiar = True
            self._table.entry(attempt.pair).familiar_until = now + window
        attempts = 0.0
        if address is not None:
            attempts = address.add(0, int(now // window)).recent(now, window)
        return Standing(
            group="" if familiar else attempt.client,
            cost=_FAMILIAR_COST if familiar else 10.0 ** min(attempts, _MAX_POWER),
            attempts=attempts,
            is_slow=not familiar and _left(self._table.find(attempt.user), now, window) > 0.0,
        )

    async def count(self, attempt: Attempt, *, user: str = "") -> Blocked | None:
        """Count an attempt just before its hash is computed. Blocked if it exceeds a limit.

        `user` is the name for the log, if there is such a user.
        """
        limits, now = attempt.limits, self._clock()
        number = int(now // limits.window)
        pair, address, whose = (self._table.entry(key) for key in _keys(attempt))
        counts = [entry.add(1, number) for entry in (pair, address, whose)]
        if self._shared is not None and limits.apply:
            shared = await self._shared.count(
                _keys(attempt), attempt.familiar, number, limits.window
            )
            if shared is not None:
                counts = list(map(Count.most, counts, shared[0]))
                if shared[1]:
                    pair.familiar_until = max(pair.familiar_until, now + limits.window)
        blocked = self._apply(
            (Scope.USER_ADDRESS, limits.user_address), pair, counts[0], attempt, user
        )
        if pair.familiar_until <= now:
            of_address = self._apply((Scope.ADDRESS, limits.address), address, counts[1], attempt)
            blocked = blocked or of_address
            self._apply((Scope.USER, limits.user), whose, counts[2], attempt, user)
        return blocked

    async def forgive(self, attempt: Attempt) -> None:
        """The attempt was a login: it no longer counts, nor do earlier ones of its user there."""
        now, window = self._clock(), attempt.limits.window
        number = int(now // window)
        pair, address, user = (self._table.entry(key) for key in _keys(attempt))
        pair.current = pair.previous = 0
        pair.familiar_until = now + FAMILIAR_FOR
        address.add(-1, number)
        user.add(-1, number)
        if self._shared is not None and attempt.limits.apply:
            mark = (attempt.familiar, FAMILIAR_FOR)
            await self._shared.forgive(_keys(attempt), number, window, mark)

    def _apply(
        self,
        limit: tuple[Scope, int],
        entry: Entry,
        count: Count,
        attempt: Attempt,
        user: str = "",
    ) -> Blocked | None:
        """Block this entry if its count exceeds the limit, and log when that begins."""
        scope, allowed = limit
        now, window = self._clock(), attempt.limits.window
        recent = count.recent(now, window)
        if not allowed or recent <= allowed:
            return None
        wait = count.wait(allowed, now, window)
        # The pod whose attempt is the first above the limit logs, and only once in a long attack.
        if recent - 1.0 <= allowed and entry.blocked_until <= now - window:
            audit(
                "login limit reached",
                Event.LOGIN,
                Subject(user),
                Origin(attempt.client),
                result="limited",
                more={"limit": str(scope), "seconds": int(wait)},
                warn=True,
            )
        entry.blocked_until = now + wait
        return Blocked(wait)


def _keys(attempt: Attempt) -> tuple[bytes, bytes, bytes]:
    return attempt.pair, attempt.address, attempt.user


def _left(entry: Entry | None, now: float, window: float) -> float:
    """Seconds for which an entry is blocked."""
    left = 0.0 if entry is None else entry.blocked_until - now
    # No block lasts longer than two windows: the clock was set back, or the window was shortened.
    return left if left <= 2.0 * window else 0.0


def _digest(key: bytes, purpose: bytes, client: str, name: bytes = b"") -> bytes:
    # Neither purposes nor networks contain NUL, so no two inputs are the same text. Keyed BLAKE2
    # (RFC 7693) is a MAC.
    text = b"\0".join((purpose, client.encode(), name))
    return hashlib.blake2b(text, digest_size=_DIGEST, key=key).digest()
