"""Denials by Redis for as long as it can be used, by what is known here while it cannot.

What is known here wins over anything Redis says, and is written there again when Redis may have
lost it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from sidecar.errors import StoreUnavailable
from sidecar.sessions.journal import Entry, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from sidecar.auth.denial import Claimed, Denial
    from sidecar.auth.session import Session
    from sidecar.sessions.arrears import Arrears
    from sidecar.sessions.memory import Memory
    from sidecar.sessions.store import Denials
    from sidecar.tasks import Tasks

T = TypeVar("T")

NEAR_HIT: Final = ("near", "hit")
NEAR_MISS: Final = ("near", "miss")


class Remotely(Protocol):
    """How Redis is used."""

    async def __call__(self, work: Coroutine[Any, Any, T], *, writing: bool = False) -> T:
        """Have Redis do it. Raises StoreUnavailable, at once while it is known to be away."""


class TieredDenials:
    """The `Denials` of a pod among others. `owe` says that there is something to make good."""

    __slots__ = ("_arrears", "_lookups", "_memory", "_owe", "_remote", "_remotely", "_tasks")

    def __init__(
        self,
        remote: Denials,
        memory: Memory,
        arrears: Arrears,
        tasks: Tasks,
        lookups: dict[tuple[str, str], int],
        *,
        remotely: Remotely,
        owe: Callable[[], None],
    ) -> None:
        self._remote = remote
        self._memory = memory
        self._arrears = arrears
        self._tasks = tasks
        self._lookups = lookups
        self._remotely = remotely
        self._owe = owe
        memory.near.on_denied(self._heard)

    def __repr__(self) -> str:
        return f"<TieredDenials {self._memory.denied!r}>"

    def peek(self, claimed: Claimed) -> Session | None:
        """The session, if it is certain without asking that the token is not denied."""
        session = self._memory.near.peek(claimed.session.id)
        if session is not None:
            self._lookups[NEAR_HIT] += 1
        return session

    def covers(self, claimed: Claimed) -> bool:
        """Whether this pod knows that the token is denied."""
        return self._memory.denied.covers(claimed)

    async def get(self, claimed: Claimed) -> Session | None:
        """The session, or None: the token is denied."""
        if self.covers(claimed):
            return None
        session = self.peek(claimed)
        if session is not None:
            return session
        if self._memory.near.coherent:
            self._lookups[NEAR_MISS] += 1
        session = await self._remotely(self._remote.get(claimed))
        return None if self.covers(claimed) else session

    async def deny(self, denials: Mapping[str, Denial]) -> None:
        """Deny these: here at once, and in Redis if that can be; else that is owed."""
        self._memory.deny(denials)
        try:
            await self._remotely(self._remote.deny(denials), writing=True)
        except StoreUnavailable:
            self._owe()
            for name, denial in denials.items():
                entry = Entry(Kind.DENIAL, name, denial.before, denial.until)
                await self._arrears.journal.add(entry)

    def _heard(self, claims: Sequence[Claimed] | None) -> None:
        """Denials of these changed: know of it before Redis may be gone. None: it may lack some."""
        if claims is None:
            if len(self._memory.denied):
                self._arrears.doubt()
                self._owe()
        elif not self.covers(claims[0]):
            self._tasks.spawn(self._learn(claims[0]), "denial look-up")

    async def _learn(self, claimed: Claimed) -> None:
        with suppress(StoreUnavailable):
            await self.get(claimed)
