"""The near cache: sessions that Redis confirmed, and whether they are as good as asked for. Pure.

What was read under a watch that still lasts needs no asking: Redis would have told of a change. The
rest is remembered for an outage only. Knows nothing of connections.
"""

from __future__ import annotations

from sys import intern
from typing import TYPE_CHECKING, Final

from sidecar.auth.session import Moments
from sidecar.sessions.guards import Guards
from sidecar.sessions.local import LocalStore
from sidecar.sessions.store import nobody

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecar.auth.denial import Claimed
    from sidecar.auth.session import Grant, Session


_GRAIN: Final = 0.1  # seconds by which a login may have been seen later than is written down


class Watch:
    """One unbroken stretch of being told of every change to what is read."""

    __slots__ = ("ended",)

    def __init__(self, ended: float | None = None) -> None:
        self.ended = ended  # monotonic seconds; None while it lasts


class Reading:
    """A look-up under way: what changes after it was sent is not to be kept from its answer."""

    __slots__ = ("changed", "watch")

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.changed: set[str] = set()


class Near:
    """At most `max_sessions` logins; `clock` gives seconds since the epoch.

    How long ago something was, `monotonic` says, also in seconds: the other clock may be set. Not
    coherent until `follow`. Without a watch, a session counts as known for `max_stale` seconds
    after Redis confirmed it, or after the watch ended under which it would have told of its end.
    """

    __slots__ = (
        *("_clock", "_denials", "_guards", "_lately", "_listener", "_max_stale", "_moments"),
        *("_monotonic", "_readings", "_watch", "flushes", "heard", "invalidations", "store"),
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
        self._moments = Moments()
        self._readings: set[Reading] = set()
        self._guards = Guards()
        self._listener: Callable[[str | None], None] = nobody
        self._denials: Callable[[Sequence[Claimed] | None], None] = _nobody
        self._watch = Watch(monotonic())
        self.store = LocalStore(clock, max_sessions)
        self.heard = monotonic()  # when the link to Redis last showed that it was alive
        self.invalidations = 0
        self.flushes = 0

    def __repr__(self) -> str:
        word = "coherent" if self.coherent else "not coherent"
        return f"<Near {len(self.store)} logins, {word}, {self.flushes} flushes>"

    def __len__(self) -> int:
        return len(self.store)

    @property
    def coherent(self) -> bool:
        """Whether changes are being told."""
        return self._watch.ended is None

    @property
    def staleness(self) -> float:
        """How long ago, in seconds, the link was last known to be alive."""
        return self._monotonic() - self.heard

    def on_changed(self, listener: Callable[[str | None], None]) -> None:
        """Call this with each token id that changed; with None when any may have."""
        self._listener = listener

    def on_denied(self, listener: Callable[[Sequence[Claimed] | None], None]) -> None:
        """Call this with tokens one of whose denials changed; with None when any may have."""
        self._denials = listener

    def peek(self, token_id: str) -> Session | None:
        """The live session, if that is certain. The hot path: one look-up, two comparisons."""
        login = self.store.tokens.get(token_id)
        if login is None or login.watch is not self._watch:
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
        since, watch = login.confirmed, login.watch
        if isinstance(watch, Watch):
            since = now if watch.ended is None else watch.ended
        if login.token_until <= self._clock() or since + self._max_stale <= now:
            return None
        return login.session

    def used_since(self, moment: float) -> list[str]:
        """The sids of logins that were let in without asking since a moment, or just before it.

        Not those seen in the future, before the clock was set back.
        """
        since, now, watch = moment - _GRAIN, self._clock(), self._watch
        return [
            login.session.sid
            for login in list(self.store.tokens.values())
            if since < login.seen <= now and login.watch is watch and login.session.sid
        ]

    def begin(self) -> Reading:
        """A look-up is about to be sent. `end` it whatever comes of it."""
        reading = Reading(self._watch)
        self._readings.add(reading)
        return reading

    def keep(self, session: Session, reading: Reading) -> None:
        """Redis has this session; under a watch, it will tell when that is so no more."""
        session.method = intern(session.method)
        session.created, session.exp = self._moments[session.created], self._moments[session.exp]
        login = self.store.remember(session)
        if login is None:
            return
        login.confirmed = self._now()
        watched = reading.watch.ended is None and session.id not in reading.changed
        login.watch = reading.watch if watched else None

    def written(self, grant: Grant) -> None:
        """Redis took this grant."""
        self.store.put(grant, adopt=True)
        self.store.tokens[grant.session.id].confirmed = self._now()

    def admit(self, claimed: Claimed, reading: Reading) -> None:
        """Redis does not deny this token; under a watch, it will tell when that changes."""
        login = self.store.remember(claimed.session)
        if login is None:
            return
        login.confirmed = self._now()
        watched = reading.watch.ended is None and reading.changed.isdisjoint(claimed.names)
        login.watch = reading.watch if watched else None
        self._guards.add(claimed)
        self._guards.prune(self.store.tokens, len(self.store))

    def end(self, reading: Reading) -> None:
        """The look-up is over."""
        self._readings.discard(reading)

    def changed(self, token_id: str) -> None:
        """Redis says that this session was changed or ended."""
        self.invalidations += 1
        for reading in self._readings:
            reading.changed.add(token_id)
        self.store.drop_token(token_id)
        self._listener(token_id)

    def denied(self, name: str) -> None:
        """Redis says that this denial was made or changed."""
        self.invalidations += 1
        self.doubt(name)

    def doubt(self, name: str) -> None:
        """Be certain no more of tokens that this denial may name."""
        for reading in self._readings:
            reading.changed.add(name)
        claims = self._guards.take(name)
        for claimed in claims:
            self.store.drop_token(claimed.session.id)
            self._listener(claimed.session.id)
        if claims:
            self._denials(claims)

    def emptied(self) -> None:
        """Redis says that all of it is gone."""
        self.invalidations += 1
        self.store.clear()
        self._guards.clear()
        if self.coherent:
            self._renew(Watch())
        self._listener(None)
        self._denials(None)

    def follow(self) -> Watch:
        """Changes are being told from here on, of what is read from here on."""
        self.heard = self._monotonic()
        self._renew(Watch())
        self._listener(None)
        self._denials(None)
        return self._watch

    def follows(self, watch: Watch) -> bool:
        """Whether this watch lasts."""
        return watch is self._watch and self.coherent

    def heard_now(self) -> None:
        """The link has shown that it is alive."""
        self.heard = self._monotonic()

    def lose(self) -> None:
        """Nothing is certain any more."""
        if self.coherent:
            self._renew(Watch(self._monotonic()))
            self.flushes += 1

    def _now(self) -> float:
        """In whole seconds, as one object for many logins: see `Moments`."""
        return self._moments[self._monotonic() // 1.0]

    def _renew(self, watch: Watch) -> None:
        if self._watch.ended is None:
            self._watch.ended = self._monotonic()
        self._watch = watch


def _nobody(_: object) -> None:
    """Nobody listens."""
