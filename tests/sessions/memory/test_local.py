"""What the local store does beyond the contract: bounds, order of leaving, what it remembers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from sidecar.sessions.memory.local import LocalStore
from tests.sessions.contract import ACCESS_TTL, REFRESH_TTL, Subject, new_login, successor_of

if TYPE_CHECKING:
    from sidecar.auth.session import Grant
    from tests.peers.clock import Clock


def filled(clock: Clock, number: int) -> tuple[LocalStore, list[Grant]]:
    """A store with that many logins, and room for as many."""
    store = LocalStore(clock, number)
    grants = [new_login(clock.now) for _ in range(number)]
    for grant in grants:
        assert store.put(grant)
    return store, grants


def test_when_it_is_full_the_oldest_goes(clock: Clock) -> None:
    """Bounded: a new login ends the oldest one, wholly."""
    store, grants = filled(clock, 3)
    store.put(new_login(clock.now))
    assert len(store) == 3
    assert store.peek(grants[0].session.id) is None
    assert store.refresh_record(grants[0].refresh_id or "") is None
    assert store.peek(grants[1].session.id) is not None


def test_what_has_expired_goes_first(clock: Clock) -> None:
    """An old login that lives stays, a younger one that has ended makes room."""
    store = LocalStore(clock, 2)
    long, short = new_login(clock.now), new_login(clock.now)
    short = replace(short, refresh=None, refresh_id=None)
    store.put(long)
    store.put(short)
    clock.advance(ACCESS_TTL + 1)
    store.put(new_login(clock.now))
    assert len(store) == 2
    assert store.refresh_record(long.refresh_id or "") is not None


def test_a_sweep_removes_what_has_ended(clock: Clock) -> None:
    """A refresh prolongs a login; the rest is forgotten, and only that."""
    store, grants = filled(clock, 5)
    clock.advance(REFRESH_TTL - 1)
    assert store.sweep(clock.now) == 0
    store.put(successor_of(grants[0], clock.now))
    assert store.sweep(clock.now + 1) == 4
    assert repr(store) == "<LocalStore 1 of 5 logins, 2 refresh records>"


def test_logins_that_come_and_go_leave_nothing(clock: Clock) -> None:
    """Ten thousand logins and logouts later the store is as small as before."""
    store = LocalStore(clock, 100)
    for _ in range(10_000):
        grant = new_login(clock.now)
        store.put(grant)
        store.drop(grant.session.sid)
    assert repr(store) == "<LocalStore 0 of 100 logins, 0 refresh records>"
    assert len(store._ends) <= 100  # noqa: SLF001 (nothing else shows it)


async def test_a_login_that_refreshes_for_ever_stays_small(clock: Clock) -> None:
    """The last used refresh tokens are remembered, older ones are unknown; both are refused."""
    store = LocalStore(clock, 10)

    async def forward(seconds: float) -> None:
        clock.advance(seconds)

    subject = Subject(store, clock, forward)
    grant = first = await subject.login()
    for _ in range(100):
        grant = await subject.refresh(grant) or pytest.fail("refused")
    assert repr(store) == "<LocalStore 1 of 10 logins, 17 refresh records>"
    assert await subject.refresh(first) is None
    assert await store.get_refresh(first.refresh_id or "") is None


def test_what_another_store_holds_is_remembered_for_a_while(clock: Clock) -> None:
    """`max_age` counts from when it was last seen."""
    store = LocalStore(clock, 10, max_age=60.0)
    session = new_login(clock.now).session
    store.remember(session)
    clock.advance(50)
    store.remember(session)
    clock.advance(50)
    assert store.peek(session.id) is session
    clock.advance(10)
    assert store.peek(session.id) is None


def test_an_older_token_does_not_replace_a_newer_one(clock: Clock) -> None:
    """Answers may come out of order; of one login the latest token counts."""
    store = LocalStore(clock, 10)
    old = new_login(clock.now)
    clock.advance(1)
    new = successor_of(old, clock.now)
    for session in (old.session, new.session, old.session):
        store.remember(session)
    assert store.peek(new.session.id) is not None
    assert store.peek(old.session.id) is None


def test_the_one_seen_last_is_the_last_to_go(clock: Clock) -> None:
    """What is in use is kept."""
    store = LocalStore(clock, 2)
    first, second, third = (new_login(clock.now).session for _ in range(3))
    for session in (first, second, first, third):
        store.remember(session)
    assert store.peek(first.id) is not None
    assert store.peek(second.id) is None


async def test_look_ups_are_counted(clock: Clock) -> None:
    """Where the local store is the store, its look-ups are the look-ups."""
    lookups: dict[tuple[str, str], int] = {}
    store = LocalStore(clock, lookups=lookups)
    grant = new_login(clock.now)
    store.put(grant)
    assert lookups == {("local", "hit"): 0, ("local", "miss"): 0}
    store.peek(grant.session.id)
    await store.get("unknown")
    assert lookups == {("local", "hit"): 1, ("local", "miss"): 1}


async def test_the_listing_says_when_a_login_was_seen(clock: Clock) -> None:
    """A look-up is a sign of life."""
    store, (grant,) = filled(clock, 1)
    clock.advance(30)
    store.peek(grant.session.id)
    (info,) = await store.sessions_of("alice")
    assert (info.seen, info.exp) == (clock.now, clock.now - 30 + REFRESH_TTL)
