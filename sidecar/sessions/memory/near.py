"""The near cache: sessions that Redis confirmed, and whether they are as good as asked for. Pure.

What was read under a epoch that still lasts needs no asking: Redis would have told of a change. The
rest is remembered for an outage only. Knows nothing of connections.
"""

from __future__ import annotations

from sys import intern
from typing import TYPE_CHECKING, Final

from sidecar.auth.session import TimestampInterner
from sidecar.sessions.coherence import PendingLookup, TrackingEpoch, ignore_change
from sidecar.sessions.memory.local import LocalStore
from sidecar.sessions.memory.revocation_index import RevocationIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecar.auth.denylist import RevocableToken
    from sidecar.auth.session import Grant, Session


_GRAIN: Final = 0.1  # seconds by which a login may have been seen later than is written down


class NearCache:
    """At most `max_sessions` logins; `clock` gives seconds since the epoch.

    How long ago something was, `monotonic` says, also in seconds: the other clock may be set. Not
    coherent until `follow`. Without a epoch, a session counts as known for `max_stale` seconds
    after Redis confirmed it, or after the epoch ended under which it would have told of its end.
    """

    __slots__ = (
        *(
            "_clock",
            "_on_revoked",
            "_revocation_index",
            "_lately",
            "_on_changed",
            "_max_stale",
            "_moments",
        ),
        *("_monotonic", "_lookups", "_epoch", "flushes", "heard", "invalidations", "store"),
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
        self._lately = 0.0  # when logins were seen: one moment for many of them, see `Moments`
        self._max_stale = max_stale
        self._moments = TimestampInterner()
        self._lookups: set[PendingLookup] = set()
        self._revocation_index = RevocationIndex()
        self._on_changed: Callable[[str | None], None] = ignore_change
        self._on_revoked: Callable[[Sequence[RevocableToken] | None], None] = _nobody
        self._epoch = TrackingEpoch(monotonic())
        self.store = LocalStore(clock, max_sessions)
        self.heard = monotonic()  # when the link to Redis last showed that it was alive
        self.invalidations = 0
        self.flushes = 0

    def __repr__(self) -> str:
        word = "coherent" if self.coherent else "not coherent"
        return f"<NearCache {len(self.store)} logins, {word}, {self.flushes} flushes>"

    def __len__(self) -> int:
        return len(self.store)

    @property
    def coherent(self) -> bool:
        """Whether changes are being told."""
        return self._epoch.ended is None

    @property
    def staleness(self) -> float:
        """How long ago, in seconds, the link was last known to be alive."""
        return self._monotonic() - self.heard

    def on_changed(self, listener: Callable[[str | None], None]) -> None:
        """Call this with each token id that changed; with None when any may have."""
        self._on_changed = listener

    def on_revoked(self, listener: Callable[[Sequence[RevocableToken] | None], None]) -> None:
        """Call this with tokens one of whose denials changed; with None when any may have."""
        self._on_revoked = listener

    def peek(self, token_id: str) -> Session | None:
        """The live session, if that is certain. The hot path: one look-up, two comparisons."""
        login = self.store.tokens.get(token_id)
        if login is None or login.epoch is not self._epoch:
            return None
        now = self._clock()
        if login.token_until <= now:
            return None
        if not 0.0 <= now - self._lately < _GRAIN:
            self._lately = now
        login.seen = self._lately
        return login.session

    def known(self, token_id: str) -> Session | None:
        """The session as Redis last confirmed it, if that is not too long ago."""
        login = self.store.tokens.get(token_id)
        if login is None:
            return None
        now = self._monotonic()
        since, epoch = login.confirmed, login.epoch
        if isinstance(epoch, TrackingEpoch):
            since = now if epoch.ended is None else epoch.ended
        if login.token_until <= self._clock() or since + self._max_stale <= now:
            return None
        return login.session

    def used_since(self, moment: float) -> list[str]:
        """The sids of logins that were let in without asking since a moment, or just before it.

        Not those seen in the future, before the clock was set back.
        """
        since, now, epoch = moment - _GRAIN, self._clock(), self._epoch
        return [
            login.session.sid
            for login in list(self.store.tokens.values())
            if since < login.seen <= now and login.epoch is epoch and login.session.sid
        ]

    def begin(self) -> PendingLookup:
        """A look-up is about to be sent. `end` it whatever comes of it."""
        lookup = PendingLookup(self._epoch)
        self._lookups.add(lookup)
        return lookup

    def keep(self, session: Session, lookup: PendingLookup) -> None:
        """Redis has this session; under a epoch, it will tell when that is so no more."""
        session.method = intern(session.method)
        session.created, session.exp = self._moments[session.created], self._moments[session.exp]
        login = self.store.remember(session)
        if login is None:
            return
        login.confirmed = self._now()
        watched = lookup.epoch.ended is None and session.id not in lookup.changed
        login.epoch = lookup.epoch if watched else None

    def written(self, grant: Grant) -> None:
        """Redis took this grant."""
        self.store.put(grant, adopt=True)
        self.store.tokens[grant.session.id].confirmed = self._now()

    def admit(self, revocable: RevocableToken, lookup: PendingLookup) -> None:
        """Redis does not deny this token; under a epoch, it will tell when that changes."""
        login = self.store.remember(revocable.session)
        if login is None:
            return
        login.confirmed = self._now()
        watched = lookup.epoch.ended is None and lookup.changed.isdisjoint(revocable.names)
        login.epoch = lookup.epoch if watched else None
        self._revocation_index.add(revocable)
        self._revocation_index.prune(self.store.tokens, len(self.store))

    def end(self, lookup: PendingLookup) -> None:
        """The look-up is over."""
        self._lookups.discard(lookup)

    def on_session_changed(self, token_id: str) -> None:
        """Redis says that this session was changed or ended."""
        self.invalidations += 1
        for lookup in self._lookups:
            lookup.changed.add(token_id)
        self.store.drop_token(token_id)
        self._on_changed(token_id)

    def on_revocation_changed(self, name: str) -> None:
        """Redis says that this denial was made or changed."""
        self.invalidations += 1
        self.invalidate_revocation(name)

    def invalidate_revocation(self, name: str) -> None:
        """Be certain no more of tokens that this denial may name."""
        for lookup in self._lookups:
            lookup.changed.add(name)
        claims = self._revocation_index.take(name)
        for revocable in claims:
            self.store.drop_token(revocable.session.id)
            self._on_changed(revocable.session.id)
        if claims:
            self._on_revoked(claims)

    def on_flushed(self) -> None:
        """Redis says that all of it is gone."""
        self.invalidations += 1
        self.store.clear()
        self._revocation_index.clear()
        if self.coherent:
            self._renew(TrackingEpoch())
        self._on_changed(None)
        self._on_revoked(None)

    def follow(self) -> TrackingEpoch:
        """Changes are being told from here on, of what is read from here on."""
        self.heard = self._monotonic()
        self._renew(TrackingEpoch())
        self._on_changed(None)
        self._on_revoked(None)
        return self._epoch

    def follows(self, epoch: TrackingEpoch) -> bool:
        """Whether this epoch lasts."""
        return epoch is self._epoch and self.coherent

    def heard_now(self) -> None:
        """The link has shown that it is alive."""
        self.heard = self._monotonic()

    def lose(self) -> None:
        """Nothing is certain any more."""
        if self.coherent:
            self._renew(TrackingEpoch(self._monotonic()))
            self.flushes += 1

    def _now(self) -> float:
        """In whole seconds, as one object for many logins: see `Moments`."""
        return self._moments[self._monotonic() // 1.0]

    def _renew(self, epoch: TrackingEpoch) -> None:
        if self._epoch.ended is None:
            self._epoch.ended = self._monotonic()
        self._epoch = epoch


def _nobody(_: object) -> None:
    """Nobody listens."""
