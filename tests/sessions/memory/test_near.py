"""The near cache: when it may answer, and when it must not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidecar.auth.denylist import RevocableToken
from sidecar.sessions.memory.near import NearCache
from tests.peers.clock import Clock
from tests.sessions.contract import ACCESS_TTL, new_login

if TYPE_CHECKING:
    from sidecar.sessions.coherence import PendingLookup

MAX_STALE = 600.0
HOUR = 3600.0


@pytest.fixture
def near(clock: Clock) -> NearCache:
    """An empty near cache in a tracking epoch."""
    made = NearCache(clock, clock, max_sessions=10, max_stale=MAX_STALE)
    made.begin_epoch()
    return made


def read(near: NearCache, clock: Clock) -> str:
    """Store a new session as Redis returned it. Returns its token id."""
    session = new_login(clock.now).session
    lookup = near.begin_lookup()
    near.add_session(session, lookup)
    near.end_lookup(lookup)
    return session.id


def test_a_session_that_was_read_is_certain(near: NearCache, clock: Clock) -> None:
    """It needs no look-up during the epoch."""
    token = read(near, clock)
    session = near.peek(token)
    assert session is not None
    assert session.id == token
    assert near.peek(token) is session


def test_a_changed_session_is_dropped(near: NearCache, clock: Clock) -> None:
    """An invalidation removes one session, and no other."""
    changed, other = read(near, clock), read(near, clock)
    near.on_session_changed(changed)
    assert near.peek(changed) is None
    assert near.last_known(changed) is None
    assert near.peek(other) is not None
    assert near.invalidations == 1


def test_a_change_during_a_look_up(near: NearCache, clock: Clock) -> None:
    """The answer may be older than the change, so it is not certain."""
    session = new_login(clock.now).session
    lookup = near.begin_lookup()
    near.on_session_changed(session.id)
    near.add_session(session, lookup)
    near.end_lookup(lookup)
    assert near.peek(session.id) is None


def test_a_key_whose_changes_are_not_reported(near: NearCache, clock: Clock) -> None:
    """What is read of it is not certain. Another look-up, and what was known, are not affected."""
    session, known = new_login(clock.now).session, read(near, clock)
    lookup = near.begin_lookup()
    near.on_unreported(session.id)
    later = near.begin_lookup()
    near.on_unreported(known)
    near.add_session(session, lookup)
    assert near.peek(session.id) is None
    assert near.last_known(session.id) == session
    assert near.peek(known) is not None
    near.add_session(session, later)
    assert near.peek(session.id) == session
    assert near.invalidations == 0


def test_an_incomplete_epoch(near: NearCache) -> None:
    """It is coherent, but changes to some keys are not reported."""
    assert (near.coherent, near.complete) == (True, True)
    near.begin_epoch(complete=False)
    assert (near.coherent, near.complete) == (True, False)
    near.end_epoch()
    assert (near.coherent, near.complete) == (False, False)


def test_an_epoch_that_ends_during_a_look_up(near: NearCache, clock: Clock) -> None:
    """The answer is not certain in a later epoch, which tracks other connections."""
    session = new_login(clock.now).session
    lookup = near.begin_lookup()
    near.end_epoch()
    near.begin_epoch()
    near.add_session(session, lookup)
    near.end_lookup(lookup)
    assert near.peek(session.id) is None


def test_nothing_is_certain_outside_an_epoch(near: NearCache, clock: Clock) -> None:
    """Sessions that were read in an earlier epoch, or between two epochs, are not certain."""
    before = read(near, clock)
    near.end_epoch()
    between = read(near, clock)
    near.begin_epoch()
    after = read(near, clock)
    certain = [near.peek(token) is not None for token in (before, between, after)]
    assert certain == [False, False, True]
    assert near.flushes == 1


def test_an_epoch_ends_once(near: NearCache) -> None:
    """`flushes` counts epochs that ended."""
    near.end_epoch()
    near.end_epoch()
    assert (near.flushes, near.coherent) == (1, False)


def test_a_session_expires_by_the_clock(near: NearCache, clock: Clock) -> None:
    """It needs no invalidation from Redis."""
    token = read(near, clock)
    clock.advance(ACCESS_TTL)
    assert near.peek(token) is None
    assert near.last_known(token) is None


def test_max_stale_of_a_tracked_session(near: NearCache, clock: Clock) -> None:
    """`max_stale` counts from the end of the epoch: until then, Redis would report a change."""
    token = read(near, clock)
    clock.advance(200)
    near.end_epoch()
    clock.advance(MAX_STALE - 1)
    assert near.last_known(token) is not None
    clock.advance(1)
    assert near.last_known(token) is None


def test_max_stale_of_an_untracked_session(near: NearCache, clock: Clock) -> None:
    """`max_stale` counts from the look-up."""
    near.end_epoch()
    token = read(near, clock)
    clock.advance(MAX_STALE - 1)
    assert near.last_known(token) is not None
    clock.advance(1)
    assert near.last_known(token) is None


def test_an_emptied_redis(near: NearCache, clock: Clock) -> None:
    """All sessions are dropped. What is read afterwards is certain again."""
    token = read(near, clock)
    session = new_login(clock.now).session
    lookup = near.begin_lookup()
    near.on_flushed()
    near.add_session(session, lookup)
    near.end_lookup(lookup)
    assert near.peek(token) is None
    assert near.last_known(token) is None
    assert near.peek(session.id) is None
    assert near.peek(read(near, clock)) is not None


def test_the_listener_is_notified(near: NearCache, clock: Clock) -> None:
    """It gets the token id of each change, and None for a new epoch or an emptied Redis."""
    reported: list[str | None] = []
    near.set_change_listener(reported.append)
    token = read(near, clock)
    near.on_session_changed(token)
    near.end_epoch()
    near.begin_epoch()
    near.on_flushed()
    assert reported == [token, None, None]


def test_it_is_bounded(near: NearCache, clock: Clock) -> None:
    """A full cache evicts the oldest session."""
    tokens = [read(near, clock) for _ in range(11)]
    assert len(near) == 10
    assert near.peek(tokens[0]) is None
    assert near.peek(tokens[-1]) is not None


def test_sessions_that_are_read_once_push_out_none_in_use(clock: Clock) -> None:
    """Ten times as many as there is room for cost no session its place that is used meanwhile."""
    near = NearCache(clock, clock, max_sessions=100, max_stale=MAX_STALE)
    near.begin_epoch()
    used = [read(near, clock) for _ in range(60)]
    once = []
    for number in range(1000):
        if number % 30 == 0:
            clock.advance(1.0)
            assert all(near.peek(token) for token in used)
        once.append(read(near, clock))
    assert len(near) <= 100
    assert all(near.peek(token) for token in used)
    assert [token for token in once if near.peek(token)] == once[60 - 100 :]


def read_revocable(near: NearCache, clock: Clock, number: int) -> str:
    """Store a token that the denylist can end, as Redis answered for it. Returns its id."""
    token_id = f"t{number}"
    names = (f"jti{number}", "user")
    lookup = near.begin_lookup()
    near.add_revocable(RevocableToken(token_id, names, clock.now, clock.now + HOUR), lookup)
    near.end_lookup(lookup)
    return token_id


def test_tokens_without_sessions_that_are_used_once(clock: Clock) -> None:
    """The newest are known. What is used again stays, at once or after it was read again."""
    near = NearCache(clock, clock, max_sessions=64, max_stale=MAX_STALE)
    near.begin_epoch()
    soon = read_revocable(near, clock, 1000)
    clock.advance(1.0)
    assert near.peek(soon) is not None
    late = read_revocable(near, clock, 1001)
    tokens = [read_revocable(near, clock, number) for number in range(20)]
    assert len(near) == 3
    assert [token for token in (late, *tokens) if near.peek(token)] == tokens[-2:]
    assert read_revocable(near, clock, 1001) == late
    for number in range(100, 120):
        read_revocable(near, clock, number)
    assert near.peek(soon) is not None
    assert near.peek(late) is not None


def test_a_revocation_of_tokens_that_were_used_once(clock: Clock) -> None:
    """It ends those that are known, and the listener hears of whatever is given up for others."""
    near = NearCache(clock, clock, max_sessions=64, max_stale=MAX_STALE)
    near.begin_epoch()
    ended: list[str | None] = []
    near.store.set_change_listener(ended.append)
    tokens = [read_revocable(near, clock, number) for number in range(6)]
    assert ended == tokens[:4]
    near.on_revocation_changed("user")
    assert not any(near.peek(token) or near.last_known(token) for token in tokens)


def test_sessions_that_are_used_once_stay_while_there_is_room(clock: Clock) -> None:
    """In an outage, they decide whether their users are still logged in."""
    near = NearCache(clock, clock, max_sessions=64, max_stale=MAX_STALE)
    near.begin_epoch()
    tokens = [read(near, clock) for _ in range(64)]
    near.end_epoch()
    assert all(near.last_known(token) for token in tokens)


def test_staleness(near: NearCache, clock: Clock) -> None:
    """It counts from the time at which Redis was last known to report changes."""
    clock.advance(3)
    assert near.staleness == 3
    near.mark_alive()
    assert near.staleness == 0


class Changes(RuleBasedStateMachine):
    """A Redis with one key: any order of events on its link and its reading connection."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.near = NearCache(self.clock, self.clock, max_sessions=10, max_stale=MAX_STALE)
        self.session = new_login(self.clock.now).session
        self.live = True
        # Look-ups in flight, and whether the server found the session.
        self.lookups: list[tuple[PendingLookup, bool]] = []
        self.pushed = 0  # invalidations in flight
        self.tracked = False  # whether the server reports the next change

    @rule()
    def begin_epoch(self) -> None:
        """The link is established."""
        self.end_epoch()
        self.near.begin_epoch()

    @rule()
    def end_epoch(self) -> None:
        """The link is lost, with the invalidations in flight."""
        self.near.end_epoch()
        self.pushed, self.tracked = 0, False

    @precondition(lambda self: len(self.lookups) < 3)
    @rule()
    def send(self) -> None:
        """A look-up reaches the server."""
        self.lookups.append((self.near.begin_lookup(), self.live))
        self.tracked = self.near.coherent

    @precondition(lambda self: self.lookups)
    @rule(last=st.booleans())
    def answer(self, last: bool) -> None:  # noqa: FBT001 (drawn)
        """An answer arrives."""
        lookup, live = self.lookups.pop(-1 if last else 0)
        if live:
            self.near.add_session(self.session, lookup)
        else:
            self.near.store.drop_token(self.session.id)
        self.near.end_lookup(lookup)

    @rule()
    def end(self) -> None:
        """The session is ended elsewhere."""
        self.live = False
        if self.tracked:
            self.pushed += 1
            self.tracked = False

    @precondition(lambda self: self.pushed)
    @rule()
    def invalidate(self) -> None:
        """An invalidation arrives."""
        self.pushed -= 1
        self.near.on_session_changed(self.session.id)

    @invariant()
    def nothing_ended_is_certain(self) -> None:
        """Once every invalidation has arrived, an ended session is not certain."""
        if not self.live and not self.pushed:
            assert self.near.peek(self.session.id) is None


TestChanges = Changes.TestCase
TestChanges.settings = settings(max_examples=200, stateful_step_count=20, deadline=None)


def test_used_since(near: NearCache, clock: Clock) -> None:
    """It lists the logins that the cache answered for, and only in the current epoch."""
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
    """`max_stale` and `staleness` are time that passed, whatever the wall clock says."""
    wall, passed = Clock(), Clock(5.0)
    near = NearCache(wall, passed, max_sessions=10, max_stale=MAX_STALE)
    session = new_login(wall.now, cookie=True).session
    near.begin_epoch()
    lookup = near.begin_lookup()
    near.add_session(session, lookup)
    near.end_lookup(lookup)
    wall.advance(step)
    assert near.peek(session.id) is not None
    assert (near.staleness, near.coherent) == (0.0, True)
    near.end_epoch()
    wall.advance(step)
    assert near.last_known(session.id) is not None
    passed.advance(MAX_STALE - 1)
    assert near.last_known(session.id) is not None
    passed.advance(1)
    assert near.last_known(session.id) is None
    assert near.staleness == MAX_STALE


@pytest.mark.parametrize("step", [pytest.param(HOUR, id="on"), pytest.param(-HOUR, id="back")])
def test_untracked_sessions_when_the_wall_clock_is_set(step: float) -> None:
    """`max_stale` counts from the confirmation by Redis, in time that passed."""
    wall, passed = Clock(), Clock(5.0)
    near = NearCache(wall, passed, max_sessions=10, max_stale=MAX_STALE)
    written = new_login(wall.now, cookie=True)
    near.add_grant(written)
    token = new_login(wall.now, cookie=True).session
    lookup = near.begin_lookup()
    near.add_session(token, lookup)
    near.end_lookup(lookup)
    wall.advance(step)
    passed.advance(MAX_STALE - 1)
    assert near.last_known(written.session.id) is not None
    assert near.last_known(token.id) is not None
    passed.advance(1)
    assert near.last_known(written.session.id) is None
    assert near.last_known(token.id) is None


def test_uses_in_the_future_do_not_count(near: NearCache, clock: Clock) -> None:
    """After the clock was set back, only uses by the new clock count."""
    before, after = read(near, clock), read(near, clock)
    assert near.peek(before) is not None
    clock.advance(-HOUR)
    since = clock.now
    session = near.peek(after)
    assert session is not None
    assert near.used_since(since) == [session.sid]
