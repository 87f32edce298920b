"""The logins in memory by key, user and end, and which of them a full table gives up. Pure.

Knows neither tokens nor who must be notified when a login goes.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final

from sidecar.sessions.memory.by_user import ByUser
from sidecar.sessions.memory.expiry import ExpiryQueue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.sessions.memory.login import Login

_EVICTED_SHARE: Final = 256  # a full table evicts one login in so many


class LoginTable:
    """Holds logins, the oldest first. `limit` is how many there may be."""

    __slots__ = ("_ends", "_logins", "_unproven", "_users", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._logins: dict[str, Login] = {}
        self._users = ByUser()
        self._ends = ExpiryQueue()
        # Keys of the logins that were not used again yet, and of some that were or are gone. A key
        # leaves once, so the time that `surplus` takes is in proportion to the logins added.
        self._unproven: deque[str] = deque()

    def __repr__(self) -> str:
        return f"<LoginTable {len(self._logins)} of {self.limit} logins>"

    def __len__(self) -> int:
        return len(self._logins)

    def get(self, key: str) -> Login | None:
        """The login under this key, even if it has expired and is not removed yet."""
        return self._logins.get(key)

    def add(self, login: Login) -> None:
        """Add a login as the latest one."""
        self._logins[login.key] = login
        self._unproven.append(login.key)
        if len(self._unproven) > 2 * len(self._logins) + 64:
            self._unproven = deque(key for key, each in self._logins.items() if each.unused)
        if login.session.sub:  # otherwise nobody can ask for the user's logins
            self._users.add(login.session.sub, login)

    def remove(self, key: str) -> Login | None:
        """Remove and return a login."""
        login = self._logins.pop(key, None)
        if login is not None:
            self._users.remove(login.session.sub, key)
        return login

    def move_to_end(self, login: Login) -> None:
        """Make this login the latest one, so that it is evicted last."""
        self._logins[login.key] = self._logins.pop(login.key)

    def everything(self) -> list[Login]:
        """All logins, the oldest first."""
        return list(self._logins.values())

    def of(self, sub: str) -> tuple[Login, ...]:
        """A user's logins, the oldest first."""
        return self._users.of(sub)

    def end_at(self, login: Login, until: float) -> None:
        """Set when a login ends, which may be later than before."""
        is_new = login.until == 0.0
        login.until = until
        if is_new:  # one entry for each login: `ended` reads a later end when this entry is due
            self._ends.add(until, login.key)
            if len(self._ends) > 2 * len(self._logins) + 64:
                self._ends.replace_all((each.until, each.key) for each in self._logins.values())

    def ended(self, now: float) -> Iterator[Login]:
        """The logins that have ended and must be removed, each once."""
        while (key := self._ends.pop_due(now)) is not None:
            login = self._logins.get(key)
            if login is not None and login.until > now:
                self._ends.add(login.until, key)  # it was extended
            elif login is not None:
                yield login

    def surplus(self, *, spread: bool) -> list[Login]:
        """What a full table must evict before a login is added; empty if there is room.

        With `spread`, the oldest logins of the user who has the most: no user's logins fall to
        those of another; or the oldest of all if every user has one. Otherwise the oldest of those
        that were not used again: what is read once pushes out nothing that is in use.
        """
        if len(self._logins) < self.limit:
            return []
        if spread and (heaviest := self._users.heaviest()):
            return list(heaviest)
        # Several at once: finding a dict's first key walks over all keys deleted before it.
        number = len(self._logins) // _EVICTED_SHARE + 1
        if not spread and (unused := self._take_unused(number)):
            return unused
        return list(islice(self._logins.values(), number))

    def _take_unused(self, number: int) -> list[Login]:
        """Up to `number` of the oldest logins that were not used again."""
        found: list[Login] = []
        while self._unproven and len(found) < number:
            login = self._logins.get(self._unproven.popleft())
            if login is not None and login.unused:
                found.append(login)
        return found
