"""What Redis may have missed, and how that is made good before it is trusted again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sidecar.auth.session import Grant
    from sidecar.sessions.memory import Memory
    from sidecar.sessions.store import SessionStore

_KEPT: Final = 10_000


class Arrears:
    """Grants of which `remote` may have all, some or nothing, by login, in their order.

    They are written again: else a logout elsewhere would not end what `memory` keeps of them.
    """

    __slots__ = ("_grants", "_memory", "_remote")

    def __init__(self, remote: SessionStore, memory: Memory) -> None:
        self._remote = remote
        self._memory = memory
        self._grants: dict[str, list[Grant]] = {}

    def __repr__(self) -> str:
        return f"<Arrears {len(self._grants)} logins>"

    def __len__(self) -> int:
        return len(self._grants)

    def add(self, grant: Grant) -> None:
        """To be written."""
        self._grants.setdefault(grant.session.sid, []).append(grant)
        if len(self._grants) > _KEPT:  # the oldest stays valid here, and only here
            del self._grants[next(iter(self._grants))]

    def holds(self, sid: str) -> bool:
        """Whether something of this login is to be written."""
        return sid in self._grants

    def forget(self, sid: str) -> None:
        """This login was ended."""
        self._grants.pop(sid, None)

    def forget_user(self, sub: str) -> None:
        """All logins of this user were ended."""
        for sid in [sid for sid, ours in self._grants.items() if ours[0].session.sub == sub]:
            del self._grants[sid]

    async def settle(self) -> bool:
        """Write it; what was ended meanwhile is ended there. True: that was all.

        Raises StoreUnavailable.
        """
        while self._grants:
            sid, grants = next(iter(self._grants.items()))
            live = await self._remote.write(grants[0])
            if self._grants.get(sid) is not grants:
                await self._remote.revoke_session(sid)
            elif not live:  # it was ended elsewhere
                del self._grants[sid]
                self._memory.forget(sid)
            elif len(grants) > 1:
                del grants[0]
            else:
                del self._grants[sid]
                self._memory.written(grants[0])
        return True
