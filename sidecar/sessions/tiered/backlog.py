"""What Redis has missed, and how that is made good before it is trusted again.

Revocations first, and denials that it may have lost, so that nothing that was ended is read; then
the refresh tokens used up here, so that nobody else continues what goes on here; then the grants of
which it may have a part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.auth.denylist import Revocation
from sidecar.sessions.revocation.journal import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.auth.session import Grant, RefreshRecord
    from sidecar.sessions.memory.known import KnownSessions
    from sidecar.sessions.revocation.journal import Entry, Journal
    from sidecar.sessions.store import SharedStore

_KEPT: Final = 10_000
_ROUNDS: Final = 8  # for what is ended meanwhile; each has less to do than the one before it


class Backlog:
    """What is to be made good at `remote`. Lists are bounded; the oldest goes first.

    Grants are written again, by login and in their order: else a logout elsewhere would not end
    what `known` keeps of them. `clock` gives seconds since the epoch.
    """

    __slots__ = ("_claims", "_clock", "_grants", "_incomplete", "_known", "_remote", "journal")

    def __init__(
        self,
        remote: SharedStore,
        known: KnownSessions,
        journal: Journal,
        clock: Callable[[], float],
    ) -> None:
        self._remote = remote
        self._known = known
        self._clock = clock
        self.journal = journal
        self._incomplete = False
        self._claims: dict[str, RefreshRecord] = {}
        self._grants: dict[str, list[Grant]] = {}

    def __repr__(self) -> str:
        return (
            f"<Backlog {len(self.journal)} revocations, {len(self._claims)} claims,"
            f" {len(self._grants)} logins>"
        )

    def __len__(self) -> int:
        return len(self.journal) + len(self._claims) + len(self._grants)

    def add(self, grant: Grant) -> None:
        """To be written."""
        self._grants.setdefault(grant.session.sid, []).append(grant)
        if len(self._grants) > _KEPT:  # the oldest stays valid here, and only here
            del self._grants[next(iter(self._grants))]

    def claim(self, refresh_id: str, used: RefreshRecord) -> None:
        """A refresh token that Redis holds was used up here."""
        self._claims[refresh_id] = used
        if len(self._claims) > _KEPT:
            del self._claims[next(iter(self._claims))]

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

    def mark_incomplete(self) -> None:
        """Redis may have lost what it knew."""
        self._incomplete = True

    async def replay(self) -> bool:
        """Make it good. True: that was all. Raises StoreUnavailable."""
        await self._revoke()
        await self._restate()
        await self._use_up()
        await self._write()
        return not len(self) and not self._incomplete

    async def _revoke(self) -> None:
        for _ in range(_ROUNDS):
            pending = self.journal.pending()
            if not pending:
                return
            for entry in pending:
                if entry.until > self._clock():
                    await self._revoke_one(entry)
                await self.journal.done(entry)

    async def _revoke_one(self, entry: Entry) -> None:
        if entry.kind is Kind.SESSION:
            await self._remote.revoke_session(entry.what)
        elif entry.kind is Kind.TOKEN:
            await self._remote.revoke_token(entry.what)
        elif entry.kind is Kind.DENIAL:
            await self._remote.revocations.revoke({entry.what: Revocation(entry.at, entry.until)})
        else:
            await self._remote.revoke_user(entry.what, before=entry.at)

    async def _restate(self) -> None:
        """Write all denials known here that Redis lacks, if it may lack some."""
        if not self._incomplete:
            return
        self._incomplete = False
        try:
            await self._remote.revocations.revoke(self._known.revocations.in_force())
        except BaseException:
            self._incomplete = True
            raise

    async def _use_up(self) -> None:
        while self._claims:
            refresh_id, used = next(iter(self._claims.items()))
            before = await self._remote.claim_refresh(refresh_id, used)
            self._claims.pop(refresh_id, None)
            # A claim of ours whose answer was lost stands there as sent; no nonce comes twice.
            if before is not None and before.used_at is not None and before.sealed != used.sealed:
                # Somebody else went on with it meanwhile. One token, two heirs: neither is trusted.
                self.forget(used.sid)
                self._known.end_session(used.sid)
                await self._remote.revoke_session(used.sid)

    async def _write(self) -> None:
        """Write the grants; what was ended meanwhile is ended there."""
        while self._grants:
            sid, grants = next(iter(self._grants.items()))
            live = await self._remote.write(grants[0])
            if self._grants.get(sid) is not grants:
                await self._remote.revoke_session(sid)
            elif not live:  # it was ended elsewhere
                del self._grants[sid]
                self._known.forget(sid)
            elif len(grants) > 1:
                del grants[0]
            else:
                del self._grants[sid]
                self._known.written(grants[0])
