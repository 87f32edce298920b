"""The near cache: sessions that Redis confirmed, and whether they are still certain. Pure.

A session that was read in a tracking epoch that still lasts needs no look-up: Redis would have
reported a change. All others are kept only for an outage. Knows nothing of connections.
"""

from __future__ import annotations

from collections import deque
from sys import intern
from typing import TYPE_CHECKING, Any, Final

from sidecar.auth.denylist import RevocableToken
from sidecar.auth.doorkeeper import Doorkeeper
from sidecar.auth.session import FOREVER, ClaimsInterner, TimestampInterner
from sidecar.auth.token_cache import SHARE
from sidecar.sessions.coherence import PendingLookup, TrackingEpoch, ignore_change
from sidecar.sessions.memory.local import LocalStore
from sidecar.sessions.memory.revocation_index import RevocationIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecar.auth.session import Grant, Session


_SEEN_GRAIN: Final = 0.1  # seconds by which a login may have been seen later than recorded


class NearCache:
    """At most `max_sessions` logins. `clock` returns seconds since the epoch.

    `monotonic` (seconds) measures how long ago something was, because the wall clock may be set.
    The cache is not coherent until `begin_epoch`. Outside an epoch, a session counts as known for
    `max_stale` seconds after Redis confirmed it, or after the end of the epoch in which it was
    read: until then, Redis would have reported its end.

    A full cache gives up sessions that were not used again since they were read, the oldest first.
    """

    __slots__ = (
        *(
            "_change_listener",
            "_claims",
            "_clock",
            "_complete",
            "_doorkeeper",
            "_epoch",
            "_lookups",
        ),
        *("_max_stale", "_monotonic", "_most_on_probation", "_probation"),
        *("_revocation_index", "_revocation_listener", "_seen_at", "_timestamps"),
        *("fault", "flushes", "invalidations", "last_alive", "store"),
    )

    def __init__(
        self,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        *,
        max_sessions: int,
        max_stale: float,
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._seen_at = 0.0  # one object for many logins: see `TimestampInterner`
        self._max_stale = max_stale
        self._timestamps = TimestampInterner()
        self._claims = ClaimsInterner()
        self._doorkeeper = Doorkeeper(max_sessions)
        self._probation: deque[str] = deque()  # ids of tokens that were new, the oldest first
        self._most_on_probation = max(max_sessions // SHARE, 1)
        self._lookups: set[PendingLookup] = set()
        self._revocation_index = RevocationIndex()
        self._change_listener: Callable[[str | None], None] = ignore_change
        self._revocation_listener: Callable[[Sequence[RevocableToken] | None], None] = (
            _ignore_revocations
        )
        self._epoch = TrackingEpoch(monotonic())
        self._complete = True
        self.store = LocalStore(clock, max_sessions)
        self.last_alive = monotonic()  # when Redis was last known to report changes
        self.fault = ""  # why Redis does not report changes, if it does not
        self.invalidations = 0
        self.flushes = 0

    def __repr__(self) -> str:
        word = "coherent" if self.coherent else "not coherent"
        return f"<NearCache {len(self.store)} logins, {word}, {self.flushes} flushes>"

    def __len__(self) -> int:
        return len(self.store)

    def describe(self) -> dict[str, Any]:
        """The cache's state as plain JSON values, for `/status`."""
        return {
            "entries": len(self.store),
            "coherent": self.coherent,
            "fault": self.fault,
            "flushes": self.flushes,
        }

    @property
    def coherent(self) -> bool:
        """Whether Redis reports changes now."""
        return self._epoch.ended is None

    @property
    def complete(self) -> bool:
        """Whether Redis reports changes to everything that was read, certain or not."""
        return self.coherent and self._complete

    @property
    def staleness(self) -> float:
        """Seconds since Redis was last known to report changes."""
        return self._monotonic() - self.last_alive

    def set_change_listener(self, listener: Callable[[str | None], None]) -> None:
        """Call `listener` with each token id that changed, or with None if any may have."""
        self._change_listener = listener

    def set_revocation_listener(
        self, listener: Callable[[Sequence[RevocableToken] | None], None]
    ) -> None:
        """Call `listener` with the tokens that a changed revocation names; None: any token."""
        self._revocation_listener = listener

    def peek(self, token_id: str) -> Session | None:
        """The live session, if it is certain. The hot path: one look-up, two comparisons."""
        login = self.store.tokens.get(token_id)
        if login is None or login.confirmed is not self._epoch:
            return None
        now = self._clock()
        if login.token_until <= now:
            return None
        if not 0.0 <= now - self._seen_at < _SEEN_GRAIN:
            self._seen_at = now
        login.seen = self._seen_at
        return login.session

    def last_known(self, token_id: str) -> Session | None:
        """The session as Redis last confirmed it, unless that was too long ago."""
        login = self.store.tokens.get(token_id)
        if login is None:
            return None
        now = self._monotonic()
        confirmed = login.confirmed
        if isinstance(confirmed, TrackingEpoch):
            since = now if confirmed.ended is None else confirmed.ended
        else:
            since = confirmed
        if login.token_until <= self._clock() or since + self._max_stale <= now:
            return None
        return login.session

    def used_since(self, time: float) -> list[str]:
        """The sids of logins that `peek` returned after `time`, or up to 0.1 s before it.

        Logins seen in the future are left out: the clock was set back since.
        """
        since, now, epoch = time - _SEEN_GRAIN, self._clock(), self._epoch
        return [
            login.session.sid
            for login in list(self.store.tokens.values())
            if since < login.seen <= now and login.confirmed is epoch and login.session.sid
        ]

    def begin_lookup(self) -> PendingLookup:
        """A look-up is about to be sent. The caller must call `end_lookup` in any case."""
        lookup = PendingLookup(self._epoch)
        self._lookups.add(lookup)
        return lookup

    def end_lookup(self, lookup: PendingLookup) -> None:
        """The look-up is complete, or has failed."""
        self._lookups.discard(lookup)

    def add_session(self, session: Session, lookup: PendingLookup) -> None:
        """Store a session that Redis returned. In an epoch, it is certain until a change."""
        session.method = intern(session.method)
        session.claims = self._claims.shared(session.claims)
        session.created = self._timestamps[session.created]
        session.exp = self._timestamps[session.exp]
        login = self.store.remember(session, self._seen())
        if login is not None:
            tracked = lookup.epoch.ended is None and session.id not in lookup.changed
            login.confirmed = lookup.epoch if tracked else self._confirmed_at()

    def add_grant(self, grant: Grant) -> None:
        """Store a grant that Redis accepted. It is not certain until Redis is asked for it."""
        if self.store.put(grant, adopt=True):
            for token_id in (grant.session.id, grant.replaces or ""):
                if (login := self.store.tokens.get(token_id)) is not None:
                    login.confirmed = self._confirmed_at()

    def add_revocable(self, revocable: RevocableToken, lookup: PendingLookup) -> None:
        """Store a token that is not revoked in Redis. In an epoch, it is certain until a change."""
        login = self.store.remember(revocable.session, self._seen())
        if login is None:
            return
        tracked = lookup.epoch.ended is None and lookup.changed.isdisjoint(revocable.names)
        login.confirmed = lookup.epoch if tracked else self._confirmed_at()
        self._put_on_probation(revocable.session.id)
        self._revocation_index.add(revocable)
        self._revocation_index.prune(self.store.tokens, len(self.store))

    def on_session_ended(self, token_id: str) -> None:
        """This session was ended, which nothing but the look-ups under way can still contradict."""
        for lookup in self._lookups:
            lookup.ended.add(token_id)

    def on_unreported(self, name: str) -> None:
        """Redis will not report changes to this session or revocation, which is being read."""
        for lookup in self._lookups:
            lookup.changed.add(name)

    def on_session_changed(self, token_id: str) -> None:
        """Redis reports that this session was changed or ended."""
        self.invalidations += 1
        for lookup in self._lookups:
            lookup.changed.add(token_id)
        self.store.drop_token(token_id)
        self._change_listener(token_id)

    def on_revocation_changed(self, name: str) -> None:
        """Redis reports that this revocation was added or changed."""
        self.invalidations += 1
        if not self.invalidate_revocation(name):
            # Redis reports what was read: by a token that is not kept any more. Without Redis, its
            # signature may be enough, so the revocation must be known. This stands for the token.
            self._revocation_listener((RevocableToken(name, (name,), FOREVER, 0.0),))

    def invalidate_revocation(self, name: str) -> bool:
        """Remove the tokens that this revocation may name. False if there are none."""
        for lookup in self._lookups:
            lookup.changed.add(name)
        revocables = self._revocation_index.take(name)
        for revocable in revocables:
            self.store.drop_token(revocable.session.id)
            self._change_listener(revocable.session.id)
        if revocables:
            self._revocation_listener(revocables)
        return bool(revocables)

    def on_flushed(self) -> None:
        """Redis reports that all keys are gone."""
        self.invalidations += 1
        self.clear()

    def clear(self) -> None:
        """Forget every session: nothing that Redis confirmed is certain any more."""
        self.store.clear()
        self._probation.clear()
        self._revocation_index.clear()
        if self.coherent:
            self._replace_epoch(TrackingEpoch())
        self._change_listener(None)
        self._revocation_listener(None)

    def begin_epoch(self, *, complete: bool = True) -> None:
        """Begin an epoch: Redis reports changes to what is read from now on.

        `complete` says that this is so for everything that is read.
        """
        self.last_alive = self._monotonic()
        self._complete = complete
        self._replace_epoch(TrackingEpoch())
        self._change_listener(None)
        self._revocation_listener(None)

    def end_epoch(self) -> None:
        """End the epoch: changes may go unreported, so no session is certain any more."""
        if self.coherent:
            self._replace_epoch(TrackingEpoch(self._monotonic()))
            self.flushes += 1

    def mark_alive(self) -> None:
        """Redis has shown that it reports changes."""
        self.last_alive = self._monotonic()

    def _put_on_probation(self, token_id: str) -> None:
        """Bound the tokens without a session of which each was used once.

        Clients that get a token for each call use such tokens. A session that was used once stays
        while there is room: in an outage, it decides whether its user is still logged in.
        """
        if self._doorkeeper.admits(hash(token_id)):
            return
        self._probation.append(token_id)
        if len(self._probation) > self._most_on_probation:
            oldest = self._probation.popleft()
            login = self.store.tokens.get(oldest)
            if login is not None and login.unused:
                self.store.drop_token(oldest)

    def _seen(self) -> float:
        """The time now, or up to 0.1 s ago: one object for many logins."""
        now = self._clock()
        if not 0.0 <= now - self._seen_at < _SEEN_GRAIN:
            self._seen_at = now
        return self._seen_at

    def _confirmed_at(self) -> float:
        """The time in whole seconds: one object for many logins, see `TimestampInterner`."""
        return self._timestamps[self._monotonic() // 1.0]

    def _replace_epoch(self, epoch: TrackingEpoch) -> None:
        if self._epoch.ended is None:
            self._epoch.ended = self._monotonic()
        self._epoch = epoch


def _ignore_revocations(_: object) -> None:
    """The revocation listener until one is set."""
