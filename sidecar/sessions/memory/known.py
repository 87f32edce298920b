"""What this process knows of sessions by itself: begun here in an outage, seen live, ended here.

Answers while Redis cannot. Does no I/O and never waits; knows nothing of when it is asked, or why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from sidecar.auth.denylist import Revocation, is_revoked
from sidecar.sessions.memory.local import LocalStore
from sidecar.sessions.memory.near import NearCache
from sidecar.sessions.revocation.denylist import OwnTokens, RevocationTable
from sidecar.sessions.revocation.journal import Kind
from sidecar.sessions.revocation.tombstones import Tombstones

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sidecar.auth.denylist import RevocableToken
    from sidecar.auth.session import Grant, RefreshRecord, Session, SessionInfo
    from sidecar.sessions.coherence import PendingLookup
    from sidecar.sessions.revocation.journal import Entry


class KnownSessions:
    """Each part is bounded by `max_sessions`; times in seconds, `clock` gives those of the epoch.

    How long ago something was, `monotonic` says: the other clock may be set.

    `born` holds what was written here in Redis' absence: valid for itself, until it ends. `seen`
    holds what Redis had: of use while Redis is away, and `max_stale` after it was last confirmed at
    most. What was `ended` here stays so for `max_ttl`, whatever Redis still holds.
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

    def on_ended(self, listener: Callable[[str | None], None]) -> None:
        """Call this with the token id of each session that ends here, or changed in Redis."""
        self.near.on_changed(listener)
        self.cached.on_ended(listener)
        self.local_only.on_ended(listener)

    def peek(self, token_id: str) -> Session | None:
        """The session, if all that this process knows says that it is live."""
        return self.local_only.peek(token_id) or self.near.known(token_id)

    def begin(self) -> PendingLookup:
        """Redis is about to be asked for sessions. `end` that whatever comes of it."""
        return self.near.begin()

    def confirm(self, token_id: str, session: Session | None, reading: PendingLookup) -> None:
        """Remember Redis' answer, unless it is known better here."""
        if session is None:
            self.cached.drop_token(token_id)
        elif not self.tombstones.is_ended(session, self._clock()):
            self.near.keep(session, reading)

    def admit(
        self, revocable: RevocableToken, found: Sequence[Revocation | None], reading: PendingLookup
    ) -> Session | None:
        """Remember the denials that Redis has of a token, or that it has none."""
        for name, revocation in zip(revocable.names, found, strict=True):
            if revocation is not None:
                self.revocations.add(name, revocation)
        if is_revoked(revocable, found) or self.revocations.is_revoked(revocable):
            self.cached.drop_token(revocable.session.id)
            return None
        self.near.admit(revocable, reading)
        return revocable.session

    def revoke(self, revocations: Mapping[str, Revocation]) -> None:
        """Deny these, by name."""
        for name, revocation in revocations.items():
            self.revocations.add(name, revocation)
            self.near.invalidate_revocation(name)

    def end(self, reading: PendingLookup) -> None:
        """That look-up is over."""
        self.near.end(reading)

    def unless_revoked(self, session: Session | None) -> Session | None:
        """The session, if it was not ended here."""
        if session is None or self.tombstones.is_ended(session, self._clock()):
            return None
        return session

    def write(self, grant: Grant) -> bool:
        """A grant that Redis did not take. False if its login was ended here."""
        if self.has_ended(grant):
            return False
        # Who continues a login has claimed its refresh token, so that there is one to continue.
        self.local_only.put(grant, adopt=grant.replaces is not None)
        self.cached.drop(grant.session.sid)
        if grant.replaces is not None:
            self._end(grant.replaces)  # Redis may hold it still
        return True

    def as_redis_knows_it(self, grant: Grant) -> Grant:
        """A login that began here without Redis begins there with its first grant after it.

        One that begins now is none of those that were ended.
        """
        if grant.replaces is None:
            self.tombstones.spare(grant.session, self._clock())
        login = self.local_only.login(grant.session.sid)
        if login is None or login.adopted:
            return grant
        return replace(grant, replaces=None)

    def written(self, grant: Grant) -> None:
        """A grant that Redis took: it is no longer this process' alone."""
        self.local_only.drop(grant.session.sid)
        self.near.written(grant)

    def forget(self, sid: str) -> None:
        """A login was ended elsewhere."""
        self.local_only.drop(sid)
        self.cached.drop(sid)

    def is_listed_login_ended(self, info: SessionInfo) -> bool:
        """Whether a listed login was ended here."""
        return self.tombstones.is_login_ended(info.sid, info.sub, info.created, self._clock())

    def has_ended(self, grant: Grant) -> bool:
        """Whether a grant's login was ended here."""
        session = grant.session
        return self.tombstones.is_login_ended(
            session.sid, session.sub, session.created, self._clock()
        )

    def unless_ended(self, record: RefreshRecord | None) -> RefreshRecord | None:
        """The record, if its login was not ended here."""
        if record is None or self.tombstones.is_login_ended(
            record.sid, record.sub, record.created, self._clock()
        ):
            return None
        return record

    def claim(self, refresh_id: str, used: RefreshRecord) -> RefreshRecord | None:
        """Claim a refresh token without Redis; what was there before, as far as known here."""
        if self.local_only.refresh_record(refresh_id) is not None:
            return self.unless_ended(self.local_only.claim(refresh_id, used))
        record = self.unless_ended(self.cached.refresh_record(refresh_id))
        if record is not None and record.used_at is None:
            self.local_only.put_refresh(refresh_id, used)  # wins over the live one in Redis
        return record

    def hold(self, entry: Entry) -> None:
        """Hold a revocation of old, which a journal kept."""
        if entry.kind is Kind.DENIAL:
            self.revocations.add(entry.what, Revocation(entry.at, entry.until))
        elif entry.kind is Kind.USER:
            self.revoke(self._own.of_user(entry.what, entry.at, self._clock()))
            self.tombstones.add_user(entry.what, entry.at, entry.until)
        else:
            self.revoke(self._own.of_logins([entry.what], self._clock()))
            self.tombstones.add(entry.what, entry.at, entry.until)

    def end_session(self, sid: str) -> bool:
        """End a login. True if it was known here."""
        self._end(sid)
        self.revoke(self._own.of_logins([sid], self._clock()))
        return any((self.local_only.drop(sid), self.cached.drop(sid)))

    def end_token(self, token_id: str) -> bool:
        """End a credential, and its login if that is known here."""
        session = self.peek(token_id)
        self._end(token_id)
        return session is not None and self.end_session(session.sid or session.id)

    def end_user(self, sub: str) -> tuple[set[str], set[str]]:
        """End all logins of a user: those that were known here, and those of them here alone."""
        now = self._clock()
        self.tombstones.add_user(sub, now, now + self._max_ttl)
        alone = {
            info.sid
            for info in self.local_only.listing(sub)
            if (login := self.local_only.login(info.sid)) is not None and not login.adopted
        }
        known = {*self.local_only.drop_user(sub), *self.cached.drop_user(sub)}
        for key in known:
            self._end(key)
        self.revoke(self._own.of_user(sub, now, now) | self._own.of_logins(known, now))
        return known, alone

    def listing(self, sub: str, *, cached: bool) -> list[SessionInfo]:
        """A user's logins that are known here, begun here or also `seen`; newest first."""
        infos = {info.sid: info for info in self.cached.listing(sub)} if cached else {}
        infos |= {info.sid: info for info in self.local_only.listing(sub)}
        return sorted(infos.values(), key=lambda info: info.created, reverse=True)

    def merged(self, sub: str, there: list[SessionInfo]) -> list[SessionInfo]:
        """What Redis lists and what lives here alone, newest first."""
        infos = {info.sid: info for info in there if not self.is_listed_login_ended(info)}
        infos |= {info.sid: info for info in self.listing(sub, cached=False)}
        return sorted(infos.values(), key=lambda info: info.created, reverse=True)

    def _end(self, identity: str) -> None:
        now = self._clock()
        self.tombstones.add(identity, now, now + self._max_ttl)
