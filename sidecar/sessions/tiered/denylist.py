"""Denials by Redis for as long as it can be used, by what is known here while it cannot.

What is known here wins over anything Redis says, and is written there again when Redis may have
lost it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from sidecar.errors import StoreUnavailable
from sidecar.sessions.revocation.journal import Entry, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from sidecar.auth.denylist import RevocableToken, Revocation
    from sidecar.auth.session import Session
    from sidecar.sessions.memory.known import KnownSessions
    from sidecar.sessions.store import RevocationStore
    from sidecar.sessions.tiered.backlog import Backlog
    from sidecar.tasks import Tasks

T = TypeVar("T")

NEAR_HIT: Final = ("near", "hit")
NEAR_MISS: Final = ("near", "miss")


class OnRedis(Protocol):
    """How Redis is used."""

    async def __call__(self, work: Coroutine[Any, Any, T], *, writing: bool = False) -> T:
        """Have Redis do it. Raises StoreUnavailable, at once while it is known to be away."""


class TieredRevocations:
    """The `RevocationStore` of one pod among several.

    `request_replay` is called when Redis has missed a revocation.
    """

    __slots__ = (
        "_backlog",
        "_known",
        "_lookups",
        "_on_redis",
        "_remote",
        "_request_replay",
        "_tasks",
    )

    def __init__(
        self,
        remote: RevocationStore,
        known: KnownSessions,
        backlog: Backlog,
        tasks: Tasks,
        lookups: dict[tuple[str, str], int],
        *,
        on_redis: OnRedis,
        request_replay: Callable[[], None],
    ) -> None:
        self._remote = remote
        self._known = known
        self._backlog = backlog
        self._tasks = tasks
        self._lookups = lookups
        self._on_redis = on_redis
        self._request_replay = request_replay
        known.near.on_revoked(self._heard)

    def __repr__(self) -> str:
        return f"<TieredRevocations {self._known.revocations!r}>"

    def peek(self, revocable: RevocableToken) -> Session | None:
        """The session, if it is certain without asking that the token is not denied."""
        session = self._known.near.peek(revocable.session.id)
        if session is not None:
            self._lookups[NEAR_HIT] += 1
        return session

    def is_revoked(self, revocable: RevocableToken) -> bool:
        """Whether this pod knows that the token is denied."""
        return self._known.revocations.is_revoked(revocable)

    async def get(self, revocable: RevocableToken) -> Session | None:
        """The session, or None: the token is denied."""
        if self.is_revoked(revocable):
            return None
        session = self.peek(revocable)
        if session is not None:
            return session
        if self._known.near.coherent:
            self._lookups[NEAR_MISS] += 1
        session = await self._on_redis(self._remote.get(revocable))
        return None if self.is_revoked(revocable) else session

    async def revoke(self, revocations: Mapping[str, Revocation]) -> None:
        """Deny these: here at once, and in Redis if that can be; else that is owed."""
        self._known.revoke(revocations)
        try:
            await self._on_redis(self._remote.revoke(revocations), writing=True)
        except StoreUnavailable:
            self._request_replay()
            for name, revocation in revocations.items():
                entry = Entry(Kind.DENIAL, name, revocation.before, revocation.until)
                await self._backlog.journal.add(entry)

    def _heard(self, claims: Sequence[RevocableToken] | None) -> None:
        """Denials of these changed: know of it before Redis may be gone. None: it may lack some."""
        if claims is None:
            if len(self._known.revocations):
                self._backlog.mark_incomplete()
                self._request_replay()
        elif not self.is_revoked(claims[0]):
            self._tasks.spawn(self._learn(claims[0]), "denial look-up")

    async def _learn(self, revocable: RevocableToken) -> None:
        with suppress(StoreUnavailable):
            await self.get(revocable)
