"""What users see of the logins in this process's memory. Pure; changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.sessions.listing import PAGE, page_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.auth.session import SessionInfo
    from sidecar.sessions.listing import Position
    from sidecar.sessions.memory.login import Login
    from sidecar.sessions.memory.login_table import LoginTable


class LocalListings:
    """Reads a store's `logins` by sid and by user. `clock` returns seconds since the epoch."""

    __slots__ = ("_clock", "_logins")

    def __init__(self, logins: LoginTable, clock: Callable[[], float]) -> None:
        self._logins = logins
        self._clock = clock

    def __repr__(self) -> str:
        return f"<LocalListings of {len(self._logins)} logins>"

    def info_of(self, sub: str, sid: str) -> SessionInfo | None:
        """The login under this sid if it is one of the user's live logins; without waiting."""
        login = self._logins.get(sid)
        if login is None or login.session.sub != sub or not self._is_listed(login):
            return None
        return login.info()

    def listing(self, sub: str) -> list[SessionInfo]:
        """All of the user's live logins, in no order; without waiting."""
        return [login.info() for login in self._logins.of(sub) if self._is_listed(login)]

    async def login_of(self, sub: str, sid: str) -> SessionInfo | None:
        """The login under this sid if it is one of the user's live logins."""
        return self.info_of(sub, sid)

    async def sessions_of(
        self, sub: str, after: Position | None = None, limit: int = PAGE
    ) -> list[SessionInfo]:
        """The first `limit` of the user's live logins after this position, newest first."""
        return page_of(self.listing(sub), after, limit)

    async def login_times(self, sub: str, *, above: int) -> dict[str, float]:
        """When each of the user's live logins began, by sid; empty unless more than `above`."""
        began = {info.sid: info.created for info in self.listing(sub)}
        return began if len(began) > above else {}

    def _is_listed(self, login: Login) -> bool:
        """Whether it is live, and a login: a foreign session has no sid."""
        return login.until > self._clock() and bool(login.session.sid)
