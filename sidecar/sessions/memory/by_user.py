"""An index of logins by user. Most users have one login, which takes no table of its own. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sidecar.sessions.memory.login import Login

_SHARE: Final = 256  # of a user's logins, `heaviest` returns one in so many


class ByUser:
    """Finds the logins of a user, and the user with the most logins."""

    __slots__ = ("_by_number", "_logins", "_most")

    def __init__(self) -> None:
        # Measured: a table for each user takes 230 bytes of the 1,460 that a login took.
        self._logins: dict[str, Login | dict[str, Login]] = {}
        # Users with several logins, by the number of these.
        self._by_number: dict[int, dict[str, None]] = {}
        self._most = 1

    def __repr__(self) -> str:
        return f"<ByUser {len(self._logins)} users>"

    def add(self, sub: str, login: Login) -> None:
        """Add a login of this user."""
        known = self._logins.get(sub)
        if known is None:
            self._logins[sub] = login
            return
        if not isinstance(known, dict):
            known = self._logins[sub] = {known.key: known}
        before = len(known)
        known[login.key] = login
        self._recount(sub, before, len(known))

    def remove(self, sub: str, key: str) -> None:
        """Remove the login that has this `key`, if this user has one."""
        known = self._logins.get(sub)
        if isinstance(known, dict):
            if known.pop(key, None) is not None:
                self._recount(sub, len(known) + 1, len(known))
            if known:
                return
        elif known is None or known.key != key:
            return
        del self._logins[sub]

    def of(self, sub: str) -> tuple[Login, ...]:
        """A user's logins, the oldest first."""
        known = self._logins.get(sub)
        if known is None:
            return ()
        return tuple(known.values()) if isinstance(known, dict) else (known,)

    def heaviest(self) -> tuple[Login, ...]:
        """The oldest logins of the user who has the most; empty if no user has several.

        Several logins of a user who has hundreds, because finding them takes longer than removing
        one. Of several such users, it is the last one to have reached that number.
        """
        if self._most < 2:
            return ()
        user = next(reversed(self._by_number[self._most]))
        return self.of(user)[: self._most // _SHARE + 1]

    def _recount(self, sub: str, before: int, after: int) -> None:
        """Move a user whose number of logins has changed by at most one."""
        if before == after:
            return
        if before > 1:
            users = self._by_number[before]
            del users[sub]
            if not users:
                del self._by_number[before]
        if after > 1:
            self._by_number.setdefault(after, {})[sub] = None
        if after > self._most or (self._most > 1 and self._most not in self._by_number):
            self._most = max(after, 1)
