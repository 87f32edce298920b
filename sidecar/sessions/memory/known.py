"""What this process knows of sessions without asking Redis.

Three parts: sessions that only this process has, sessions that Redis confirmed, and tombstones of
those that ended here. Pure: does no I/O and never waits. Does not decide when it may be asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from sidecar.auth.denylist import is_revoked
from sidecar.auth.revocation import Revocation
from sidecar.sessions.memory.local import LocalStore
from sidecar.sessions.memory.near import NearCache
from sidecar.sessions.revocation.denylist import OwnTokens, RevocationTable
from sidecar.sessions.revocation.entry import EntryKind
from sidecar.sessions.revocation.tombstones import Tombstones

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sidecar.auth.denylist import RevocableToken
    from sidecar.auth.session import Grant, RefreshRecord, Session, SessionInfo
    from sidecar.sessions.coherence import PendingLookup
    from sidecar.sessions.revocation.entry import Entry


class KnownSessions:
    """Each part is bounded by `max_sessions`. Durations are in seconds.

    `local_only`: sessions written here while Redis was unavailable, live until they end.
    `cached`: sessions that Redis confirmed, usable without Redis for up to `max_stale`.
    `tombstones`: what was ended here, for `max_ttl`, whatever Redis still holds.
    `clock` returns seconds since the epoch. `monotonic` measures how long ago something was,
    because the wall clock may be set.
    """

    __slots__ = (
        *("_clock", "_max_ttl", "_own"),
        *("cached", "local_only", "near", "revocations", "tombstones"),
    )

    def __init__(
        self,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        own: OwnTokens | None = None,
        *,
        max_sessions: int,
        max_stale: float,
        max_ttl: float,
    ) -> None:
        self._clock = clock
        self._max_ttl = max_ttl
        self.local_only = LocalStore(clock, max_sessions)
        self.near = NearCache(clock, monotonic, max_sessions=max_sessions, max_stale=max_stale)
        self.cached = self.near.store
        self.tombstones = Tombstones(max_sessions)
        self.revocations = RevocationTable(clock, max_sessions)
        self._own = OwnTokens() if own is None else own

    def __repr__(self) -> str:
        return f"<KnownSessions {len(self.local_only)} local, {self.near!r}, {self.tombstones!r}>"

    def describe(self) -> dict[str, Any]:
        """The size and state of each part as plain JSON values, for `/status`."""
        return {
            "local_only": len(self.local_only),
            "near_cache": self.near.describe(),
            "tombstones": len(self.tombstones),
        }

    def set_change_listener(self, listener: Callable[[str | None], None]) -> None:
        """Call `listener` with the token id of each session that ends here or changes in Redis."""
        self.near.set_change_listener(listener)
        self.cached.set_change_listener(listener)
        self.local_only.set_change_listener(listener)

    def last_known(self, token_id: str) -> Session | None:
        """The session, if everything that this process knows says that it is live."""
        return self.local_only.peek(token_id) or self.near.last_known(token_id)

    def begin_lookup(self) -> PendingLookup:
        """Redis is about to be asked. The caller must call `end_lookup` in any case."""
        return self.near.begin_lookup()

    def end_lookup(self, lookup: PendingLookup) -> None:
        """The look-up is complete, or has failed."""
        self.near.end_lookup(lookup)

    def record_session(
        self, token_id: str, session: Session | None, lookup: PendingLookup
    ) -> Session | None:
        """Keep the answer that Redis gave, unless a tombstone contradicts it.

        Returns it, unless the session was ended here while the answer was under way.
        """
        if token_id in lookup.ended:
            session = None
        if session is None:
            self.cached.drop_token(token_id)
        elif not self.tombstones.is_ended(session, self._clock()):
            self.near.add_session(session, lookup)
        return session

    def record_revocations(
        self, revocable: RevocableToken, found: Sequence[Revocation | None], lookup: PendingLookup
    ) -> Session | None:
        """Keep the revocations that Redis has of a token. Returns its session unless revoked."""
        for name, revocation in zip(revocable.names, found, strict=True):
            if revocation is not None:
                self.revocations.add(name, revocation)
        if is_revoked(revocable, found) or self.revocations.is_revoked(revocable):
            self.cached.drop_token(revocable.session.id)
            return None
        if revocable.session.exp > self._clock():
            self.near.add_revocable(revocable, lookup)
        return revocable.session

    def revoke(self, revocations: Mapping[str, Revocation]) -> None:
        """Add revocations, by name, and remove the tokens that they name from the near cache."""
        for name, revocation in revocations.items():
            self.revocations.add(name, revocation)
            self.near.invalidate_revocation(name)

    def session_unless_ended(self, session: Session | None) -> Session | None:
        """The session, or None if it was ended here."""
        if session is None or self.tombstones.is_ended(session, self._clock()):
            return None
        return session

    def record_unless_ended(self, record: RefreshRecord | None) -> RefreshRecord | None:
        """The refresh record, or None if its login was ended here."""
        if record is None or self.tombstones.is_login_ended(
            record.sid, record.sub, record.created, self._clock()
        ):
            return None
        return record

    def is_sid_ended(self, sid: str) -> bool:
        """Whether the login under this sid was ended here."""
        return self.tombstones.is_login_ended(sid, "", float("inf"), self._clock())

    def is_grant_ended(self, grant: Grant) -> bool:
        """Whether a grant's login was ended here."""
        session = grant.session
        return self.tombstones.is_login_ended(
            session.sid, session.sub, session.created, self._clock()
        )

    def is_listed_login_ended(self, info: SessionInfo) -> bool:
        """Whether a listed login was ended here."""
        return self.tombstones.is_login_ended(info.sid, info.sub, info.created, self._clock())

    def write_local(self, grant: Grant) -> bool:
        """Keep a grant that Redis did not accept. False if its login has ended, or is ahead."""
        if self.is_grant_ended(grant):
            return False
        # A caller that continues a login has claimed its refresh token, so the login exists.
        if not self.local_only.put(grant, adopt=grant.replaces is not None):
            return False
        self.cached.drop(grant.session.sid)
        if grant.replaces is not None:
            self._bury(grant.replaces)  # Redis may still hold it, and for longer
        return True

    def grant_for_redis(self, grant: Grant) -> Grant:
        """The grant as Redis must receive it.

        Redis does not know a login that began here without it, so the next grant begins that
        login there. A login that begins now is exempt from an earlier logout of all sessions.
        """
        if grant.replaces is None:
            self.tombstones.exempt(grant.session, self._clock())
        login = self.local_only.login(grant.session.sid)
        if login is None or login.adopted:
            return grant
        return replace(grant, replaces=None)

    def record_written(self, grant: Grant) -> None:
        """Redis accepted a grant: its login is no longer local only."""
        self.local_only.drop(grant.session.sid)
        self.near.add_grant(grant)
        if (replaced := grant.replaced(self._clock())) is not None:
            self.tombstones.discard(replaced.id)  # Redis has it with its present end

    def forget(self, sid: str) -> None:
        """Remove a login that was ended elsewhere."""
        self.local_only.drop(sid)
        self.cached.drop(sid)

    def claim(self, refresh_id: str, used: RefreshRecord) -> RefreshRecord | None:
        """Claim a refresh token without Redis. Returns the previous record, if it is known."""
        if self.local_only.refresh_record(refresh_id) is not None:
            return self.record_unless_ended(self.local_only.claim(refresh_id, used))
        record = self.record_unless_ended(self.cached.refresh_record(refresh_id))
        if record is not None and record.used_at is None:
            self.local_only.put_refresh(refresh_id, used)  # overrides the live record in Redis
            self.cached.claim(refresh_id, used)  # must not count as live once `used` has expired
        return record

    def restore(self, entry: Entry) -> None:
        """Apply a revocation that the journal kept from an earlier run."""
        if entry.kind is EntryKind.REVOCATION:
            self.revocations.add(entry.name, Revocation(entry.at, entry.until))
        elif entry.kind is EntryKind.USER:
            self.revoke(self._own.of_user(entry.name, entry.at, self._clock()))
            self.tombstones.add_user(entry.name, entry.at, entry.until)
        else:
            self.revoke(self._own.of_logins([entry.name], self._clock()))
            self.tombstones.add(entry.name, entry.at, entry.until)

    def end_session(self, sid: str) -> bool:
        """End a login. True if it was known here."""
        self._bury(sid)
        self.revoke(self._own.of_logins([sid], self._clock()))
        return any((self.local_only.drop(sid), self.cached.drop(sid)))

    def is_token_ended(self, token_id: str) -> bool:
        """Whether this credential was ended here by itself."""
        return self.tombstones.contains(token_id, self._clock())

    def end_token(self, token_id: str) -> bool:
        """End a credential, and its login if that is known here. True if it was."""
        session = self.last_known(token_id)
        self._bury(token_id)
        return session is not None and self.end_session(session.sid or session.id)

    def forget_token(self, token_id: str) -> None:
        """Remove the tombstone of a token that no store knows: it may be made up."""
        self.tombstones.discard(token_id)
        self.near.on_session_ended(token_id)

    def end_user(self, sub: str) -> tuple[set[str], set[str]]:
        """End all logins of a user.

        Returns the sids that were known here, and those among them that Redis never had.
        """
        now = self._clock()
        self.tombstones.add_user(sub, now, now + self._max_ttl)
        unshared = {
            info.sid
            for info in self.local_only.listing(sub)
            if (login := self.local_only.login(info.sid)) is not None and not login.adopted
        }
        known = {*self.local_only.drop_user(sub), *self.cached.drop_user(sub)}
        for key in known:
            self._bury(key)
        self.revoke(self._own.of_user(sub, now, now) | self._own.of_logins(known, now))
        return known, unshared

    def listing(self, sub: str) -> list[SessionInfo]:
        """A user's logins without Redis: those from before, and those of this process alone."""
        infos = {info.sid: info for info in self.cached.listing(sub)}
        return list((infos | {info.sid: info for info in self.local_only.listing(sub)}).values())

    def merged(self, sub: str, shared: Iterable[SessionInfo]) -> list[SessionInfo]:
        """These logins in Redis that were not ended here, and those of this process alone."""
        infos = {info.sid: info for info in shared if not self.is_listed_login_ended(info)}
        return list((infos | {info.sid: info for info in self.local_only.listing(sub)}).values())

    def _bury(self, identity: str) -> None:
        """Add a tombstone for a sid or a token id."""
        now = self._clock()
        self.tombstones.add(identity, now, now + self._max_ttl)
