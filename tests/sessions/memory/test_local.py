"""The local store beyond the contract: bounds, eviction, and sessions of other stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from sidecar.sessions.memory.local import LocalStore
from tests.sessions.contract import (
    ACCESS_TTL,
    REFRESH_TTL,
    USED_TTL,
    Subject,
    new_login,
    successor_of,
    used_of,
)

if TYPE_CHECKING:
    from sidecar.auth.session import Grant
    from tests.peers.clock import Clock


def filled(clock: Clock, number: int) -> tuple[LocalStore, list[Grant]]:
    """A store that is full with `number` logins."""
    store = LocalStore(clock, number)
    grants = [new_login(clock.now) for _ in range(number)]
    for grant in grants:
        assert store.put(grant)
    return store, grants


def test_a_full_store_evicts_the_oldest(clock: Clock) -> None:
    """A new login evicts the user's oldest one, with its refresh record."""
    store, grants = filled(clock, 3)
    store.put(new_login(clock.now))
    assert len(store) == 3
    assert store.peek(grants[0].session.id) is None
    assert store.refresh_record(grants[0].refresh_id or "") is None
    assert store.peek(grants[1].session.id) is not None


def test_logins_of_one_user_do_not_evict_those_of_others(clock: Clock) -> None:
    """In a full store, a thousand logins of one user cost only that user logins."""
    store = LocalStore(clock, 50)
    others = [new_login(clock.now, f"user-{number}") for number in range(40)]
    for grant in others:
        store.put(grant)
    last = [new_login(clock.now, "mallory") for _ in range(1000)]
    for grant in last:
        store.put(grant)
    assert all(store.peek(grant.session.id) for grant in others)
    assert [grant for grant in last if store.peek(grant.session.id)] == last[-10:]
    store.put(new_login(clock.now, "newcomer"))
    assert all(store.peek(grant.session.id) for grant in others)
    assert len(store.listing("mallory")) == 9


def test_a_copy_evicts_the_copy_that_was_used_least_recently(clock: Clock) -> None:
    """In the near cache, many logins of one user that are in use are as good as any."""
    store = LocalStore(clock, 10)
    unused = new_login(clock.now, "bob").session
    store.remember(unused)
    used = [new_login(clock.now).session for _ in range(9)]
    for session in (*used, new_login(clock.now, "carol").session):
        store.remember(session)
    assert store.peek(unused.id) is None
    assert all(store.peek(session.id) for session in used)


def test_used_records_of_others_are_swept(clock: Clock) -> None:
    """Used records go when they expire, and not only when their own login is used again."""
    store, grants = filled(clock, 5)
    for grant in grants:
        store.claim(grant.refresh_id or "", used_of(grant, clock.now))
        store.put(successor_of(grant, clock.now))
    assert repr(store) == "<LocalStore 5 of 5 logins, 10 refresh records>"
    clock.advance(USED_TTL)
    store.put(successor_of(successor_of(grants[0], clock.now), clock.now))
    assert repr(store) == "<LocalStore 5 of 5 logins, 6 refresh records>"


def test_expired_logins_are_evicted_first(clock: Clock) -> None:
    """An expired login is evicted before an older one that is live."""
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
    """A sweep removes expired logins, and keeps one that a refresh has extended."""
    store, grants = filled(clock, 5)
    clock.advance(REFRESH_TTL - 1)
    assert store.sweep(clock.now) == 0
    store.put(successor_of(grants[0], clock.now))
    assert store.sweep(clock.now + 1) == 4
    assert repr(store) == "<LocalStore 1 of 5 logins, 2 refresh records>"


def test_logins_that_come_and_go_leave_nothing(clock: Clock) -> None:
    """Ten thousand logins and logouts leave an empty store."""
    store = LocalStore(clock, 100)
    for _ in range(10_000):
        grant = new_login(clock.now)
        store.put(grant)
        store.drop(grant.session.sid)
    assert repr(store) == "<LocalStore 0 of 100 logins, 0 refresh records>"
    assert len(store._logins._ends) <= 100  # noqa: SLF001 (no public attribute shows it)


async def test_a_login_that_refreshes_for_ever_stays_small(clock: Clock) -> None:
    """Only the last two used refresh tokens are kept, and only for a while."""
    store = LocalStore(clock, 10)

    async def forward(seconds: float) -> None:
        clock.advance(seconds)

    subject = Subject(store, clock, forward)
    grant = first = await subject.login()
    for _ in range(100):
        grant = await subject.refresh(grant) or pytest.fail("refused")
    assert repr(store) == "<LocalStore 1 of 10 logins, 3 refresh records>"
    assert await subject.refresh(first) is None
    assert await store.get_refresh(first.refresh_id or "") is None
    clock.advance(USED_TTL)
    assert await subject.refresh(grant) is not None
    assert repr(store) == "<LocalStore 1 of 10 logins, 2 refresh records>"


def test_a_remembered_session_expires_after_max_age(clock: Clock) -> None:
    """`max_age` counts from the last time it was remembered."""
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
    """Answers may arrive out of order. The latest token of a login counts."""
    store = LocalStore(clock, 10)
    old = new_login(clock.now)
    clock.advance(1)
    new = successor_of(old, clock.now)
    for session in (old.session, new.session, old.session):
        store.remember(session)
    assert store.peek(new.session.id) is not None
    assert store.peek(old.session.id) is None


def test_the_login_seen_last_is_evicted_last(clock: Clock) -> None:
    """Remembering a session again protects it from eviction."""
    store = LocalStore(clock, 2)
    first, second, third = (new_login(clock.now).session for _ in range(3))
    for session in (first, second, first, third):
        store.remember(session)
    assert store.peek(first.id) is not None
    assert store.peek(second.id) is None


async def test_look_ups_are_counted(clock: Clock) -> None:
    """Hits and misses are counted under the source `local`."""
    lookups: dict[tuple[str, str], int] = {}
    store = LocalStore(clock, lookups=lookups)
    grant = new_login(clock.now)
    store.put(grant)
    assert lookups == {("local", "hit"): 0, ("local", "miss"): 0}
    store.peek(grant.session.id)
    await store.get("unknown")
    assert lookups == {("local", "hit"): 1, ("local", "miss"): 1}


async def test_the_listing_says_when_a_login_was_seen(clock: Clock) -> None:
    """A look-up counts as a use of the login."""
    store, (grant,) = filled(clock, 1)
    clock.advance(30)
    store.peek(grant.session.id)
    (info,) = await store.sessions_of("alice")
    assert (info.seen, info.exp) == (clock.now, clock.now - 30 + REFRESH_TTL)


def test_a_remembered_session_that_ends_earlier_now(clock: Clock) -> None:
    """A replaced token counts for a while only, also if it was known for longer before."""
    store = LocalStore(clock, 10)
    session = new_login(clock.now).session
    store.remember(session)
    store.remember(replace(session, exp=clock.now + 10))
    clock.advance(10)
    assert store.peek(session.id) is None
