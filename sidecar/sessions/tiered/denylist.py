"""Revocations in Redis while it is usable, and those known to this process while it is not.

What this process knows overrides what Redis says, and is written to Redis again when Redis may
have lost it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from sidecar.errors import StoreUnavailable
from sidecar.sessions.revocation.entry import Entry, EntryKind

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from sidecar.auth.denylist import RevocableToken
    from sidecar.auth.revocation import Revocation
    from sidecar.auth.session import Session
    from sidecar.sessions.memory.known import KnownSessions
    from sidecar.sessions.store import RevocationStore
    from sidecar.sessions.tiered.backlog import Backlog
    from sidecar.tasks import Tasks

T = TypeVar("T")

NEAR_HIT: Final = ("near", "hit")
NEAR_MISS: Final = ("near", "miss")


class LookUp(Protocol):
    """Runs a look-up in Redis."""

    async def __call__(self, work: Coroutine[Any, Any, T]) -> T:
        """The outcome of `work`. Raises StoreUnavailable, at once while Redis is not in use."""


class RunOnRedis(Protocol):
    """Runs an operation on Redis."""

    async def __call__(self, work: Coroutine[Any, Any, T], *, writing: bool = False) -> T:
        """The outcome of `work`. Raises StoreUnavailable, at once while Redis is not in use."""


class TieredRevocations:
    """The `RevocationStore` of one pod among several.

    It calls `request_replay` when Redis has missed a revocation.
    """

    __slots__ = (
        *("_backlog", "_known", "_look_up", "_lookups", "_remote", "_request_replay"),
        *("_run_on_redis", "_tasks"),
    )

    def __init__(
        self,
        remote: RevocationStore,
        known: KnownSessions,
        backlog: Backlog,
        tasks: Tasks,
        lookups: dict[tuple[str, str], int],
        *,
        look_up: LookUp,
        run_on_redis: RunOnRedis,
        request_replay: Callable[[], None],
    ) -> None:
        self._remote = remote
        self._known = known
        self._backlog = backlog
        self._tasks = tasks
        self._lookups = lookups
        self._look_up = look_up
        self._run_on_redis = run_on_redis
        self._request_replay = request_replay
        known.near.set_revocation_listener(self._on_revocations_changed)

    def __repr__(self) -> str:
        return f"<TieredRevocations {self._known.revocations!r}>"

    def peek(self, revocable: RevocableToken) -> Session | None:
        """The token's session, if it is certain without asking that it is not revoked."""
        session = self._known.near.peek(revocable.session.id)
        if session is not None:
            self._lookups[NEAR_HIT] += 1
        return session

    def is_revoked(self, revocable: RevocableToken) -> bool:
        """Whether this pod knows that the token is revoked."""
        return self._known.revocations.is_revoked(revocable)

    async def get(self, revocable: RevocableToken) -> Session | None:
        """The token's session, or None if the token is revoked. Raises StoreUnavailable."""
        if self.is_revoked(revocable):
            return None
        session = self.peek(revocable)
        if session is not None:
            return session
        if self._known.near.coherent:
            self._lookups[NEAR_MISS] += 1
        session = await self._look_up(self._remote.get(revocable))
        return None if self.is_revoked(revocable) else session

    async def revoke(self, revocations: Mapping[str, Revocation]) -> None:
        """Record revocations here at once, and in Redis, or else in the journal for later."""
        self._known.revoke(revocations)
        try:
            await self._run_on_redis(self._remote.revoke(revocations), writing=True)
        except StoreUnavailable:
            self._request_replay()
            for name, revocation in revocations.items():
                entry = Entry(EntryKind.REVOCATION, name, revocation.before, revocation.until)
                await self._backlog.journal.add(entry)

    def _on_revocations_changed(self, revocables: Sequence[RevocableToken] | None) -> None:
        """Look up a changed revocation before an outage can hide it. None: Redis may lack some."""
        if revocables is None:
            if len(self._known.revocations):
                self._backlog.mark_incomplete()
                self._request_replay()
        elif not self.is_revoked(revocables[0]):
            self._tasks.spawn(self._refresh(revocables[0]), "revocation look-up")

    async def _refresh(self, revocable: RevocableToken) -> None:
        with suppress(StoreUnavailable):
            await self.get(revocable)
