"""What users see of their logins: those in Redis while it is usable, and those known here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.errors import StoreUnavailable
from sidecar.sessions.listing import PAGE, page_of, position_of

if TYPE_CHECKING:
    from sidecar.auth.session import SessionInfo
    from sidecar.sessions.listing import Position
    from sidecar.sessions.memory.known import KnownSessions
    from sidecar.sessions.store import SharedStore
    from sidecar.sessions.tiered.denylist import RunOnRedis


class TieredListings:
    """Reads logins from `remote`, and from what is `known` here."""

    __slots__ = ("_known", "_remote", "_run_on_redis")

    def __init__(self, remote: SharedStore, known: KnownSessions, run_on_redis: RunOnRedis) -> None:
        self._remote = remote
        self._known = known
        self._run_on_redis = run_on_redis

    def __repr__(self) -> str:
        return f"<TieredListings of {self._known!r}>"

    async def login_of(self, sub: str, sid: str) -> SessionInfo | None:
        """The login under this sid if it is one of the user's live logins, as far as known."""
        info = self._known.local_only.info_of(sub, sid)
        if info is None:
            try:
                info = await self._run_on_redis(self._remote.login_of(sub, sid))
            except StoreUnavailable:
                info = self._known.cached.info_of(sub, sid)
        return None if info is None or self._known.is_listed_login_ended(info) else info

    async def sessions_of(
        self, sub: str, after: Position | None = None, limit: int = PAGE
    ) -> list[SessionInfo]:
        """The first `limit` of the user's live logins after this position, newest first.

        Without Redis, those known here.
        """
        shared: list[SessionInfo] = []
        reached = after
        try:
            while True:  # more than once only if Redis still has logins that were ended here
                page = await self._run_on_redis(self._remote.sessions_of(sub, reached, limit))
                shared += page
                known = self._known.merged(sub, shared)
                if len(page) < limit or len(known) >= limit:
                    return page_of(known, after, limit)
                reached = min(map(position_of, page))
        except StoreUnavailable:
            return page_of(self._known.listing(sub), after, limit)

    async def login_times(self, sub: str, *, above: int) -> dict[str, float]:
        """When each of the user's live logins began, by sid. Without Redis, of those known here."""
        here = {info.sid: info.created for info in self._known.local_only.listing(sub)}
        try:
            beyond = max(above - len(here), 0)
            began = await self._run_on_redis(self._remote.login_times(sub, above=beyond))
        except StoreUnavailable:
            began = {info.sid: info.created for info in self._known.listing(sub)}
        began = {sid: at for sid, at in began.items() if not self._known.is_sid_ended(sid)} | here
        return began if len(began) > above else {}
