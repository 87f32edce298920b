"""What Redis has missed, and its replay before Redis is trusted again.

The order matters. First revocations, including those that Redis may have lost, so that no ended
session is read. Then refresh tokens that were used here, so that no other client continues those
logins. Then grants that Redis may have received in part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.auth.revocation import Revocation
from sidecar.sessions.revocation.entry import EntryKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.auth.session import Grant, RefreshRecord
    from sidecar.sessions.memory.known import KnownSessions
    from sidecar.sessions.revocation.entry import Entry
    from sidecar.sessions.revocation.journal import Journal
    from sidecar.sessions.store import SharedStore

_MAX_QUEUED: Final = 10_000
_ROUNDS: Final = 8  # for revocations that arrive meanwhile; each round has less to do


class Backlog:
    """Queues what must be replayed to `remote`. Queues are bounded and evict the oldest first.

    Grants are replayed by login and in order. Otherwise a logout at another pod would not end the
    sessions that `known` keeps of them. `clock` returns seconds since the epoch.
    """

    __slots__ = (
        *("_claims", "_clock", "_grants", "_incomplete", "_known", "_passed", "_remote", "_sent"),
        "journal",
    )

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
        self._passed: set[str] = set()  # those of `_claims` whose successor Redis has from here
        self._grants: dict[str, list[Grant]] = {}
        self._sent: set[str] = set()  # those of `_grants` that Redis may have received in part

    def __repr__(self) -> str:
        return (
            f"<Backlog {len(self.journal)} revocations, {len(self._claims)} claims,"
            f" {len(self._grants)} logins>"
        )

    def __len__(self) -> int:
        return len(self.journal) + len(self._claims) + len(self._grants)

    def enqueue_grant(self, grant: Grant, *, sent: bool) -> None:
        """Queue a grant to be written. `sent` says whether Redis may have received it in part."""
        sid = grant.session.sid
        self._grants.setdefault(sid, []).append(grant)
        if sent:
            self._sent.add(sid)
        if len(self._grants) > _MAX_QUEUED:  # the evicted login stays valid, at this pod only
            self.forget(next(iter(self._grants)))

    def enqueue_claim(self, refresh_id: str, used: RefreshRecord) -> None:
        """Queue the claim of a refresh token that was used here and that Redis holds."""
        self._claims[refresh_id] = used
        if len(self._claims) > _MAX_QUEUED:
            evicted = next(iter(self._claims))
            del self._claims[evicted]
            self._passed.discard(evicted)

    def record_written(self, grant: Grant) -> None:
        """Redis has accepted a grant from here, so its login has passed the tokens used before."""
        sid, generation = grant.session.sid, grant.generation
        for refresh_id, used in self._claims.items():
            if used.sid == sid and used.generation < generation:
                self._passed.add(refresh_id)

    def has_grants(self, sid: str) -> bool:
        """Whether a grant of this login is queued."""
        return sid in self._grants

    def is_sent(self, sid: str) -> bool:
        """Whether Redis may have received a queued grant of this login."""
        return sid in self._sent

    def forget(self, sid: str) -> None:
        """Discard the grants of a login that was ended."""
        self._grants.pop(sid, None)
        self._sent.discard(sid)

    def forget_user(self, sub: str) -> None:
        """Discard the grants of a user all of whose logins were ended."""
        for sid in [sid for sid, grants in self._grants.items() if grants[0].session.sub == sub]:
            self.forget(sid)

    def mark_incomplete(self) -> None:
        """Redis may have lost revocations: the next replay writes all that are in force."""
        self._incomplete = True

    async def replay(self) -> bool:
        """Replay everything. True if nothing is left. Raises StoreUnavailable."""
        await self._replay_revocations()
        await self._rewrite_denylist()
        await self._replay_claims()
        await self._replay_grants()
        return not len(self) and not self._incomplete

    async def _replay_revocations(self) -> None:
        for _ in range(_ROUNDS):
            pending = self.journal.pending()
            if not pending:
                return
            for entry in pending:
                if entry.until > self._clock():
                    await self._replay_entry(entry)
                await self.journal.done(entry)

    async def _replay_entry(self, entry: Entry) -> None:
        if entry.kind is EntryKind.SESSION:
            await self._remote.revoke_session(entry.name)
        elif entry.kind is EntryKind.TOKEN:
            await self._remote.revoke_token(entry.name)
        elif entry.kind is EntryKind.REVOCATION:
            await self._remote.revocations.revoke({entry.name: Revocation(entry.at, entry.until)})
        elif spared := self._known.tombstones.exempted(entry.name):
            # The clock was set back: these logins began after the logout, although by the clock
            # they did not.
            self._incomplete = True
            for sid, began in (await self._remote.login_times(entry.name, above=0)).items():
                if began < entry.at and sid not in spared:
                    await self._remote.revoke_session(sid)
        else:
            await self._remote.revoke_user(entry.name, before=entry.at)

    async def _rewrite_denylist(self) -> None:
        """Write every revocation that is in force here, if Redis may have lost some."""
        if not self._incomplete:
            return
        self._incomplete = False
        try:
            await self._remote.revocations.revoke(self._known.revocations.in_force())
        except BaseException:
            self._incomplete = True
            raise

    async def _replay_claims(self) -> None:
        while self._claims:
            refresh_id, used = next(iter(self._claims.items()))
            before = await self._remote.claim_refresh(refresh_id, used)
            self._claims.pop(refresh_id, None)
            passed = refresh_id in self._passed
            self._passed.discard(refresh_id)
            # If the answer to an earlier attempt was lost, Redis holds this very claim. `sealed`
            # identifies it, because its nonce is never reused.
            if before is None:
                reused = not passed and await self._is_passed(used)
            else:
                reused = before.used_at is not None and before.sealed != used.sealed
            if reused:
                # Another client used the same token meanwhile. Neither successor can be trusted.
                self.forget(used.sid)
                self._known.end_session(used.sid)
                await self._remote.revoke_session(used.sid)

    async def _is_passed(self, used: RefreshRecord) -> bool:
        """Whether a login has been refreshed in Redis since, and not by a grant from here."""
        generation = await self._remote.generation_of(used.sid)
        if generation is None or generation <= used.generation:
            return False
        token_id = await self._remote.token_of(used.sid)
        return all(token_id != each.session.id for each in self._grants.get(used.sid, ()))

    async def _replay_grants(self) -> None:
        """Write the grants, and end any login in Redis that was ended here meanwhile."""
        while self._grants:
            sid, grants = next(iter(self._grants.items()))
            self._sent.add(sid)
            live = await self._remote.write(grants[0])
            if self._grants.get(sid) is not grants:
                await self._remote.revoke_session(sid)
            elif not live:  # it was ended elsewhere
                self.forget(sid)
                self._known.forget(sid)
            elif len(grants) > 1:
                del grants[0]
            else:
                self.forget(sid)
                self._known.record_written(grants[0])
