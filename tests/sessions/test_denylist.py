"""Denials: the rules that every store keeps, and what this process remembers of them."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Final

import pytest

from sidecar.auth.denylist import (
    EVERYTHING,
    RevocableToken,
    Revocation,
    RevocationKind,
    revocation_name,
)
from sidecar.errors import StoreUnavailable
from sidecar.sessions.memory.known import KnownSessions
from sidecar.sessions.memory.local import LocalStore
from sidecar.sessions.memory.near import NearCache
from sidecar.sessions.memory.revocation_index import RevocationIndex
from sidecar.sessions.revocation.denylist import OwnTokens, RevocationTable
from tests.peers.clock import START, Clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.sessions.contract import Subject

LIFE: Final = 900.0
USER: Final = "user of all"
_NUMBERS: Final = count(1)


def new_claim(*more: str, issued: float = START, exp: float = START + LIFE) -> RevocableToken:
    """A token with a name of its own, and others."""
    number = next(_NUMBERS)
    return RevocableToken(f"{number:064x}", (f"token{number}", *more), issued, exp)


async def counts(subject: Subject, revocable: RevocableToken) -> bool:
    """Whether a token is let in, by what is known here if there is no more."""
    revocations = subject.store.revocations
    try:
        found = revocations.peek(revocable) or await revocations.get(revocable)
    except StoreUnavailable:
        return not revocations.is_revoked(revocable)
    assert found is None or found == revocable.session
    return found is not None


async def test_a_token_counts_until_it_is_denied(subject: Subject) -> None:
    """It, and no other."""
    mine, other = new_claim("login", USER), new_claim("another", USER)
    assert await counts(subject, mine)
    await subject.store.revocations.revoke({mine.names[0]: Revocation(EVERYTHING, START + LIFE)})
    assert not await counts(subject, mine)
    assert await counts(subject, other)


async def test_a_login_is_denied(subject: Subject) -> None:
    """All of its tokens, also those not seen yet."""
    seen, unseen, other = new_claim("login"), new_claim("login"), new_claim("another")
    assert await counts(subject, seen)
    await subject.store.revocations.revoke({"login": Revocation(EVERYTHING, START + LIFE)})
    assert [await counts(subject, one) for one in (seen, unseen, other)] == [False, False, True]


async def test_a_user_is_denied_before_a_moment(subject: Subject) -> None:
    """What was issued earlier; what is issued then or later counts."""
    times = (START - 1, START, START + 1)
    tokens = [new_claim(USER, issued=issued) for issued in times]
    await subject.store.revocations.revoke({USER: Revocation(START, START + LIFE)})
    assert [await counts(subject, one) for one in tokens] == [False, True, True]


async def test_a_weaker_denial_takes_nothing_back(subject: Subject) -> None:
    """In whatever order they come."""
    tokens = [new_claim(USER, issued=START + moment) for moment in (-1, 1, 3)]
    for moment in (2, 0, 2):
        await subject.store.revocations.revoke({USER: Revocation(START + moment, START + LIFE)})
    assert [await counts(subject, one) for one in tokens] == [False, False, True]


async def test_a_denial_ends(subject: Subject) -> None:
    """When it said, not when a shorter one would have."""
    mine = new_claim()
    for until in (LIFE, 10.0):
        await subject.store.revocations.revoke(
            {mine.names[0]: Revocation(EVERYTHING, START + until)}
        )
    await subject.forward(LIFE - 1)
    assert not await counts(subject, mine)
    await subject.forward(2)
    assert await counts(subject, new_claim(mine.names[0], exp=START + 2 * LIFE))


async def test_many_at_once(subject: Subject) -> None:
    """More than one command takes."""
    tokens = [new_claim() for _ in range(1200)]
    revocation = Revocation(EVERYTHING, START + LIFE)
    await subject.store.revocations.revoke({one.names[0]: revocation for one in tokens[:-1]})
    found = [await counts(subject, one) for one in tokens[-3:]]
    assert found == [False, False, True]


async def test_no_denial_is_none(subject: Subject) -> None:
    """Nothing happens."""
    await subject.store.revocations.revoke({})
    assert await counts(subject, new_claim())


async def test_what_is_ended_here_with_our_logins(clock: Clock) -> None:
    """Where our own tokens need no session, a logout denies them."""
    store = LocalStore(clock, own=OwnTokens("us", LIFE))
    names = [
        revocation_name(RevocationKind.SID, "us", "s1"),
        revocation_name(RevocationKind.USER, "us", "alice"),
    ]
    token = new_claim(*names)
    assert store.revocations.peek(token) is token.session
    await store.revoke_session("s1")
    assert store.revocations.peek(token) is None
    old, now = (new_claim(names[1], issued=issued) for issued in (START - 1, START))
    clock.advance(0.5)
    await store.revoke_user("alice")
    assert store.revocations.is_revoked(old)
    assert not store.revocations.is_revoked(
        now
    )  # whoever logs in again in the same second is let in


def test_the_fullest_memory_forgets_the_oldest(clock: Clock) -> None:
    """But first what holds no longer."""
    denied = RevocationTable(clock, limit=20)
    short, *rest = (new_claim() for _ in range(22))
    denied.add(short.names[0], Revocation(EVERYTHING, START + 1))
    for one in rest[:19]:
        denied.add(one.names[0], Revocation(EVERYTHING, START + LIFE))
    clock.advance(2)
    denied.add(rest[19].names[0], Revocation(EVERYTHING, START + LIFE))
    assert (len(denied), denied.dropped) == (20, 0)
    denied.add(rest[20].names[0], Revocation(EVERYTHING, START + LIFE))
    assert (len(denied), denied.dropped) == (19, 2)
    assert [denied.is_revoked(one) for one in rest[:3]] == [False, False, True]
    assert set(denied.in_force()) == {one.names[0] for one in rest[2:]}
    denied.add("past", Revocation(EVERYTHING, START))
    assert len(denied) == 19


def test_guards_find_tokens_by_name() -> None:
    """One or many under a name; a name that was taken has none."""
    guards = RevocationIndex()
    tokens = [new_claim(USER) for _ in range(3)]
    for one in (*tokens, tokens[0]):
        guards.add(one)
    assert list(guards.take(USER)) == tokens
    assert list(guards.take(USER)) == []
    assert list(guards.take(tokens[1].names[0])) == [tokens[1]]
    assert len(guards) == 2


def test_guards_do_not_grow_with_what_has_gone() -> None:
    """Of a user whose tokens come and go, the present ones are kept."""
    guards = RevocationIndex()
    last: Sequence[RevocableToken] = ()
    for _ in range(10_000):
        token = new_claim(USER)
        last = (*last[-4:], token)
        guards.add(token)
        guards.prune({one.session.id for one in last}, 5)
    assert len(guards) < 2000
    assert set(last) <= set(guards.take(USER))


@pytest.fixture
def near(clock: Clock) -> NearCache:
    """An empty one that Redis tells of changes."""
    made = NearCache(clock, clock, max_sessions=10, max_stale=LIFE)
    made.follow()
    return made


def admit(near: NearCache, token: RevocableToken, *changed: str) -> bool:
    """Have it read a token's denials, and some change meanwhile. Whether it is certain then."""
    reading = near.begin()
    for name in changed:
        near.on_revocation_changed(name)
    near.admit(token, reading)
    near.end(reading)
    return near.peek(token.session.id) is not None


def test_near_knows_what_no_denial_names(near: NearCache) -> None:
    """Until one of its names is denied."""
    token, other = new_claim("login", USER), new_claim("login2", USER)
    told: list[Sequence[RevocableToken] | None] = []
    near.on_revoked(told.append)
    assert admit(near, token)
    assert admit(near, other)
    near.on_revocation_changed("login")
    assert near.peek(token.session.id) is None
    assert near.peek(other.session.id) is other.session
    near.on_revocation_changed("login")
    near.on_revocation_changed(USER)
    assert near.peek(other.session.id) is None
    assert [list(one) for one in told if one is not None] == [[token], [token, other]]


def test_near_does_not_keep_what_was_denied_while_it_was_read(near: NearCache) -> None:
    """The answer may be older than the denial."""
    token = new_claim("login", USER)
    assert not admit(near, token, USER)
    assert admit(near, token, "another")


def test_near_for_an_outage(near: NearCache, clock: Clock) -> None:
    """What was certain before it is known for a while."""
    token = new_claim(exp=START + 3 * LIFE)
    assert admit(near, token)
    clock.advance(LIFE)
    near.lose()
    assert near.peek(token.session.id) is None
    assert near.known(token.session.id) is token.session
    near.on_revocation_changed(token.names[0])
    assert near.known(token.session.id) is None


@pytest.mark.parametrize("step", [pytest.param(LIFE, id="on"), pytest.param(-LIFE, id="back")])
def test_near_for_an_outage_when_the_clock_is_set(step: float) -> None:
    """For as long as it takes, whatever the wall clock says."""
    wall, passed = Clock(), Clock(5.0)
    near = NearCache(wall, passed, max_sessions=10, max_stale=LIFE)
    token = new_claim(exp=START + 3 * LIFE)
    assert not admit(near, token)
    wall.advance(step)
    passed.advance(LIFE - 1)
    assert near.known(token.session.id) is token.session
    passed.advance(1)
    assert near.known(token.session.id) is None


def test_what_is_denied_here_is_certain_no_more(clock: Clock) -> None:
    """In the same moment, without Redis having told of it."""
    memory = KnownSessions(clock, clock, max_sessions=10, max_stale=LIFE, max_ttl=LIFE)
    memory.near.follow()
    token = new_claim()
    reading = memory.begin()
    assert memory.admit(token, [None], reading) is token.session
    memory.end(reading)
    assert memory.near.peek(token.session.id) is token.session
    memory.revoke({token.names[0]: Revocation(EVERYTHING, START + LIFE)})
    assert memory.near.peek(token.session.id) is None
    assert memory.near.known(token.session.id) is None
    assert memory.near.invalidations == 0
