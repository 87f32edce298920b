"""The near cache: what it may answer, and when it must not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidecar.sessions.memory.near import NearCache
from tests.peers.clock import Clock
from tests.sessions.contract import ACCESS_TTL, new_login

if TYPE_CHECKING:
    from sidecar.sessions.coherence import PendingLookup

MAX_STALE = 600.0
HOUR = 3600.0


@pytest.fixture
def near(clock: Clock) -> NearCache:
    """An empty one that Redis tells of changes."""
    made = NearCache(clock, clock, max_sessions=10, max_stale=MAX_STALE)
    made.begin_epoch()
    return made


def read(near: NearCache, clock: Clock) -> str:
    """Have it read a session; its token id."""
    session = new_login(clock.now).session
    reading = near.begin_lookup()
    near.add_session(session, reading)
    near.end_lookup(reading)
    return session.id


def test_what_was_read_is_not_asked_for_again(near: NearCache, clock: Clock) -> None:
    """For as long as Redis would tell of a change."""
    token = read(near, clock)
    session = near.peek(token)
    assert session is not None
    assert session.id == token
    assert near.peek(token) is session


def test_what_was_changed_is(near: NearCache, clock: Clock) -> None:
    """One session; the others stay."""
    changed, other = read(near, clock), read(near, clock)
    near.on_session_changed(changed)
    assert near.peek(changed) is None
    assert near.last_known(changed) is None
    assert near.peek(other) is not None
    assert near.invalidations == 1


def test_a_change_while_it_was_read(near: NearCache, clock: Clock) -> None:
    """The answer may be older than the change, so that it is not certain."""
    session = new_login(clock.now).session
    reading = near.begin_lookup()
    near.on_session_changed(session.id)
    near.add_session(session, reading)
    near.end_lookup(reading)
    assert near.peek(session.id) is None


def test_a_watch_that_ended_while_it_was_read(near: NearCache, clock: Clock) -> None:
    """Also if another has begun meanwhile: the connection that read it is not watched by that."""
    session = new_login(clock.now).session
    reading = near.begin_lookup()
    near.end_epoch()
    near.begin_epoch()
    near.add_session(session, reading)
    near.end_lookup(reading)
    assert near.peek(session.id) is None


def test_nothing_is_certain_without_a_watch(near: NearCache, clock: Clock) -> None:
    """Whatever was read under the last one, or before the next."""
    before = read(near, clock)
    near.end_epoch()
    between = read(near, clock)
    near.begin_epoch()
    after = read(near, clock)
    certain = [near.peek(token) is not None for token in (before, between, after)]
    assert certain == [False, False, True]
    assert near.flushes == 1


def test_losing_it_twice_is_losing_it_once(near: NearCache) -> None:
    """The count is of watches that ended."""
    near.end_epoch()
    near.end_epoch()
    assert (near.flushes, near.coherent) == (1, False)


def test_a_session_ends_by_the_clock(near: NearCache, clock: Clock) -> None:
    """Redis need not say so."""
    token = read(near, clock)
    clock.advance(ACCESS_TTL)
    assert near.peek(token) is None
    assert near.last_known(token) is None


def test_how_long_the_last_word_is_good(near: NearCache, clock: Clock) -> None:
    """From the end of the watch on: until then, a change would have been told."""
    token = read(near, clock)
    clock.advance(200)
    near.end_epoch()
    clock.advance(MAX_STALE - 1)
    assert near.last_known(token) is not None
    clock.advance(1)
    assert near.last_known(token) is None


def test_how_long_an_unwatched_word_is_good(near: NearCache, clock: Clock) -> None:
    """From when it was read."""
    near.end_epoch()
    token = read(near, clock)
    clock.advance(MAX_STALE - 1)
    assert near.last_known(token) is not None
    clock.advance(1)
    assert near.last_known(token) is None


def test_an_emptied_redis(near: NearCache, clock: Clock) -> None:
    """All of it is gone, which is certain; what is read from here on is watched."""
    token = read(near, clock)
    session = new_login(clock.now).session
    reading = near.begin_lookup()
    near.on_flushed()
    near.add_session(session, reading)
    near.end_lookup(reading)
    assert near.peek(token) is None
    assert near.last_known(token) is None
    assert near.peek(session.id) is None
    assert near.peek(read(near, clock)) is not None


def test_who_listens_is_told(near: NearCache, clock: Clock) -> None:
    """Of each change by its token; without one of a new watch, or an emptied Redis."""
    told: list[str | None] = []
    near.set_change_listener(told.append)
    token = read(near, clock)
    near.on_session_changed(token)
    near.end_epoch()
    near.begin_epoch()
    near.on_flushed()
    assert told == [token, None, None]


def test_it_is_bounded(near: NearCache, clock: Clock) -> None:
    """The oldest goes first."""
    tokens = [read(near, clock) for _ in range(11)]
    assert len(near) == 10
    assert near.peek(tokens[0]) is None
    assert near.peek(tokens[-1]) is not None


def test_how_stale_it_may_be(near: NearCache, clock: Clock) -> None:
    """Since the link was last known to be alive."""
    clock.advance(3)
    assert near.staleness == 3
    near.mark_alive()
    assert near.staleness == 0


class Changes(RuleBasedStateMachine):
    """A Redis of one key, its link and its readers, in any order of events on two connections."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.near = NearCache(self.clock, self.clock, max_sessions=10, max_stale=MAX_STALE)
        self.session = new_login(self.clock.now).session
        self.there = True
        self.readings: list[
            tuple[PendingLookup, bool]
        ] = []  # under way, and what the server answered
        self.pushed = 0  # invalidations on their way
        self.tracked = False  # whether the server will tell of the next change

    @rule()
    def follow(self) -> None:
        """The link stands."""
        self.lose()
        self.near.begin_epoch()

    @rule()
    def lose(self) -> None:
        """The link is lost, and what was on it."""
        self.near.end_epoch()
        self.pushed, self.tracked = 0, False

    @precondition(lambda self: len(self.readings) < 3)
    @rule()
    def send(self) -> None:
        """A look-up reaches the server."""
        self.readings.append((self.near.begin_lookup(), self.there))
        self.tracked = self.near.coherent

    @precondition(lambda self: self.readings)
    @rule(last=st.booleans())
    def answer(self, last: bool) -> None:  # noqa: FBT001 (drawn)
        """An answer arrives."""
        reading, there = self.readings.pop(-1 if last else 0)
        if there:
            self.near.add_session(self.session, reading)
        else:
            self.near.store.drop_token(self.session.id)
        self.near.end_lookup(reading)

    @rule()
    def end(self) -> None:
        """The session is ended elsewhere."""
        self.there = False
        if self.tracked:
            self.pushed += 1
            self.tracked = False

    @precondition(lambda self: self.pushed)
    @rule()
    def tell(self) -> None:
        """An invalidation arrives."""
        self.pushed -= 1
        self.near.on_session_changed(self.session.id)

    @invariant()
    def nothing_ended_is_certain(self) -> None:
        """Once all that was on its way has arrived, what is certain is so."""
        if not self.there and not self.pushed:
            assert self.near.peek(self.session.id) is None


TestChanges = Changes.TestCase
TestChanges.settings = settings(max_examples=200, stateful_step_count=20, deadline=None)


def test_who_was_let_in_lately(near: NearCache, clock: Clock) -> None:
    """For Redis, which was not asked about them."""
    read(near, clock)
    used = read(near, clock)
    clock.advance(10)
    session = near.peek(used)
    assert session is not None
    assert near.used_since(clock.now) == [session.sid]
    near.end_epoch()
    assert near.used_since(clock.now) == []


@pytest.mark.parametrize("step", [pytest.param(HOUR, id="on"), pytest.param(-HOUR, id="back")])
def test_a_wall_clock_that_is_set(step: float) -> None:
    """How long the last word is good, and how stale it may be, is about time that has passed."""
    wall, passed = Clock(), Clock(5.0)
    near = NearCache(wall, passed, max_sessions=10, max_stale=MAX_STALE)
    session = new_login(wall.now, cookie=True).session
    watch = near.begin_epoch()
    reading = near.begin_lookup()
    near.add_session(session, reading)
    near.end_lookup(reading)
    wall.advance(step)
    assert near.peek(session.id) is not None
    assert (near.staleness, near.is_current(watch)) == (0.0, True)
    near.end_epoch()
    wall.advance(step)
    assert near.last_known(session.id) is not None
    passed.advance(MAX_STALE - 1)
    assert near.last_known(session.id) is not None
    passed.advance(1)
    assert near.last_known(session.id) is None
    assert near.staleness == MAX_STALE


@pytest.mark.parametrize("step", [pytest.param(HOUR, id="on"), pytest.param(-HOUR, id="back")])
def test_what_was_written_or_read_unwatched_by_a_clock_that_is_set(step: float) -> None:
    """Also from when Redis confirmed it."""
    wall, passed = Clock(), Clock(5.0)
    near = NearCache(wall, passed, max_sessions=10, max_stale=MAX_STALE)
    written = new_login(wall.now, cookie=True)
    near.add_grant(written)
    token = new_login(wall.now, cookie=True).session
    reading = near.begin_lookup()
    near.add_session(token, reading)
    near.end_lookup(reading)
    wall.advance(step)
    passed.advance(MAX_STALE - 1)
    assert near.last_known(written.session.id) is not None
    assert near.last_known(token.id) is not None
    passed.advance(1)
    assert near.last_known(written.session.id) is None
    assert near.last_known(token.id) is None


def test_seen_in_the_future_is_not_seen_now(near: NearCache, clock: Clock) -> None:
    """When the clock was set back, only what is used by it counts as used."""
    before, after = read(near, clock), read(near, clock)
    assert near.peek(before) is not None
    clock.advance(-HOUR)
    since = clock.now
    session = near.peek(after)
    assert session is not None
    assert near.used_since(since) == [session.sid]
