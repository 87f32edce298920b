"""Refresh tokens over Redis and memory: what was done here without Redis takes precedence.

A token that only Redis may know raises StoreUnavailable while Redis is unavailable. None would tell
the client that its token is invalid, and the client would discard it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.errors import StoreUnavailable

if TYPE_CHECKING:
    from sidecar.auth.session import RefreshRecord
    from sidecar.sessions.memory.known import KnownSessions
    from sidecar.sessions.store import SharedStore
    from sidecar.sessions.tiered.backlog import Backlog
    from sidecar.sessions.tiered.health import RedisHealth


class TieredRefreshTokens:
    """The refresh tokens of a `TieredStore`. Every method raises StoreUnavailable."""

    __slots__ = ("_backlog", "_health", "_known", "_remote")

    def __init__(
        self, remote: SharedStore, known: KnownSessions, backlog: Backlog, health: RedisHealth
    ) -> None:
        self._remote = remote
        self._known = known
        self._backlog = backlog
        self._health = health

    def __repr__(self) -> str:
        return f"<TieredRefreshTokens over {self._known!r}>"

    async def get(self, refresh_id: str) -> RefreshRecord | None:
        """The record of a refresh token, live or used, or None."""
        record = self._known.local_only.refresh_record(refresh_id)
        if record is not None:
            return self._known.record_unless_ended(record)
        try:
            record = await self._health.run(self._remote.get_refresh(refresh_id))
        except StoreUnavailable:
            record = self._known.cached.refresh_record(refresh_id)
            if record is None:
                raise
        return self._known.record_unless_ended(record)

    async def claim(self, refresh_id: str, used: RefreshRecord) -> RefreshRecord | None:
        """Replace a live record by `used`. Returns the previous record."""
        if self._known.local_only.refresh_record(refresh_id) is not None:
            return self._known.claim(refresh_id, used)
        try:
            record = await self._health.run(
                self._remote.claim_refresh(refresh_id, used), writing=True
            )
        except StoreUnavailable:
            if self._known.cached.refresh_record(refresh_id) is None:
                raise
            record = self._known.claim(refresh_id, used)
            if record is not None and record.used_at is None:
                self._backlog.enqueue_claim(refresh_id, used)
                self._health.request_replay()
            return record
        self._known.cached.claim(refresh_id, used)
        return self._known.record_unless_ended(record)

    async def count_repeat(self, refresh_id: str, used: RefreshRecord) -> int | None:
        """Count a repeat of a used token. Without Redis, each pod counts alone."""
        if self._known.local_only.refresh_record(refresh_id) is not None:
            return self._known.local_only.repeated(refresh_id)
        try:
            return await self._health.run(self._remote.count_repeat(refresh_id, used), writing=True)
        except StoreUnavailable:
            repeats = self._known.cached.repeated(refresh_id)
            if repeats is None:
                raise
            return repeats

    async def generation_of(self, sid: str) -> int | None:
        """How often a live login has been refreshed, here or in Redis, or None."""
        if self._known.is_sid_ended(sid):
            return None
        local = await self._known.local_only.generation_of(sid)
        try:
            shared = await self._health.run(self._remote.generation_of(sid))
        except StoreUnavailable:
            if local is None:
                raise
            return local
        # Redis may not have received what was refreshed here, or may have later refreshes.
        found = [each for each in (local, shared) if each is not None]
        return max(found) if found else None
