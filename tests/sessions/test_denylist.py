"""Revocations: the contract of every store, and what this process remembers of them."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Final

import pytest

from sidecar.auth.denylist import RevocableToken, RevocationKind, revocation_name
from sidecar.auth.revocation import EVERYTHING, Revocation
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
USER: Final = "user"
_NUMBERS: Final = count(1)


def new_token(*more: str, issued: float = START, exp: float = START + LIFE) -> RevocableToken:
    """A token with a unique name, and these names."""
    number = next(_NUMBERS)
    return RevocableToken(f"{number:064x}", (f"token{number}", *more), issued, exp)


async def counts(subject: Subject, revocable: RevocableToken) -> bool:
    """Whether a token counts; without Redis, as far as this process knows."""
    revocations = subject.store.revocations
    try:
        found = revocations.peek(revocable) or await revocations.get(revocable)
    except StoreUnavailable:
        return not revocations.is_revoked(revocable)
    assert found is None or found == revocable.session
    return found is not None


async def test_a_token_counts_until_it_is_revoked(subject: Subject) -> None:
    """The revocation of one token affects no other token."""
    mine, other = new_token("login", USER), new_token("another", USER)
    assert await counts(subject, mine)
    await subject.store.revocations.revoke({mine.names[0]: Revocation(EVERYTHING, START + LIFE)})
    assert not await counts(subject, mine)
    assert await counts(subject, other)


async def test_a_login_is_revoked(subject: Subject) -> None:
    """All tokens of the login are revoked, including those not seen before."""
    seen, unseen, other = new_token("login"), new_token("login"), new_token("another")
    assert await counts(subject, seen)
    await subject.store.revocations.revoke({"login": Revocation(EVERYTHING, START + LIFE)})
    assert [await counts(subject, token) for token in (seen, unseen, other)] == [False, False, True]


async def test_a_user_is_revoked_before_a_time(subject: Subject) -> None:
    """Tokens issued before that time are revoked. Those issued then or later count."""
    times = (START - 1, START, START + 1)
    tokens = [new_token(USER, issued=issued) for issued in times]
    await subject.store.revocations.revoke({USER: Revocation(START, START + LIFE)})
    assert [await counts(subject, token) for token in tokens] == [False, True, True]


async def test_a_weaker_revocation_restores_nothing(subject: Subject) -> None:
    """The strongest revocation holds, whatever the order of the writes."""
    tokens = [new_token(USER, issued=START + seconds) for seconds in (-1, 1, 3)]
    for seconds in (2, 0, 2):
        await subject.store.revocations.revoke({USER: Revocation(START + seconds, START + LIFE)})
    assert [await counts(subject, token) for token in tokens] == [False, False, True]


async def test_a_revocation_expires(subject: Subject) -> None:
    """It expires at the latest of the times given, not at an earlier one."""
    mine = new_token()
    for until in (LIFE, 10.0):
        await subject.store.revocations.revoke(
            {mine.names[0]: Revocation(EVERYTHING, START + until)}
        )
    await subject.forward(LIFE - 1)
    assert not await counts(subject, mine)
    await subject.forward(2)
    assert await counts(subject, new_token(mine.names[0], exp=START + 2 * LIFE))


async def test_many_revocations_at_once(subject: Subject) -> None:
    """More revocations than fit into one command are all recorded."""
    tokens = [new_token() for _ in range(1200)]
    revocation = Revocation(EVERYTHING, START + LIFE)
    await subject.store.revocations.revoke({token.names[0]: revocation for token in tokens[:-1]})
    found = [await counts(subject, token) for token in tokens[-3:]]
    assert found == [False, False, True]


async def test_no_revocations(subject: Subject) -> None:
    """Recording an empty set changes nothing."""
    await subject.store.revocations.revoke({})
    assert await counts(subject, new_token())


async def test_a_logout_revokes_own_tokens(clock: Clock) -> None:
    """If this issuer's tokens need no session, a logout revokes them."""
    store = LocalStore(clock, own=OwnTokens("us", LIFE))
    names = [
        revocation_name(RevocationKind.SID, "us", "s1"),
        revocation_name(RevocationKind.USER, "us", "alice"),
    ]
    token = new_token(*names)
    assert store.revocations.peek(token) is token.session
    await store.revoke_session("s1")
    assert store.revocations.peek(token) is None
    old, now = (new_token(names[1], issued=issued) for issued in (START - 1, START))
    clock.advance(0.5)
    await store.revoke_user("alice")
    assert store.revocations.is_revoked(old)
    assert not store.revocations.is_revoked(now)  # a new login in the same second


def test_a_full_table_evicts_the_oldest(clock: Clock) -> None:
    """It evicts expired revocations first."""
    table = RevocationTable(clock, limit=20)
    short, *rest = (new_token() for _ in range(22))
    table.add(short.names[0], Revocation(EVERYTHING, START + 1))
    for token in rest[:19]:
        table.add(token.names[0], Revocation(EVERYTHING, START + LIFE))
    clock.advance(2)
    table.add(rest[19].names[0], Revocation(EVERYTHING, START + LIFE))
    assert (len(table), table.dropped) == (20, 0)
    table.add(rest[20].names[0], Revocation(EVERYTHING, START + LIFE))
    assert (len(table), table.dropped) == (19, 2)
    assert [table.is_revoked(token) for token in rest[:3]] == [False, False, True]
    assert set(table.in_force()) == {token.names[0] for token in rest[2:]}
    table.add("past", Revocation(EVERYTHING, START))
    assert len(table) == 19


def test_the_index_finds_tokens_by_name() -> None:
    """A name has one or many tokens. After `take` it has none."""
    index = RevocationIndex()
    tokens = [new_token(USER) for _ in range(3)]
    for token in (*tokens, tokens[0]):
        index.add(token)
    assert list(index.take(USER)) == tokens
    assert list(index.take(USER)) == []
    assert list(index.take(tokens[1].names[0])) == [tokens[1]]
    assert len(index) == 2


def test_the_index_forgets_tokens_that_are_gone() -> None:
    """Of a user with ever new tokens, it keeps those that are still cached."""
    index = RevocationIndex()
    last: Sequence[RevocableToken] = ()
    for _ in range(10_000):
        token = new_token(USER)
        last = (*last[-4:], token)
        index.add(token)
        index.prune({kept.session.id for kept in last}, 5)
    assert len(index) < 2000
    assert set(last) <= set(index.take(USER))


@pytest.fixture
def near(clock: Clock) -> NearCache:
    """An empty near cache in a tracking epoch."""
    made = NearCache(clock, clock, max_sessions=10, max_stale=LIFE)
    made.begin_epoch()
    return made


def look_up(near: NearCache, token: RevocableToken, *changed: str) -> bool:
    """Look a token up while revocations change. True if the token is then certain."""
    lookup = near.begin_lookup()
    for name in changed:
        near.on_revocation_changed(name)
    near.add_revocable(token, lookup)
    near.end_lookup(lookup)
    return near.peek(token.session.id) is not None


def test_an_unrevoked_token_is_certain(near: NearCache) -> None:
    """It is certain until a revocation under one of its names changes."""
    token, other = new_token("login", USER), new_token("login2", USER)
    reported: list[Sequence[RevocableToken] | None] = []
    near.set_revocation_listener(reported.append)
    assert look_up(near, token)
    assert look_up(near, other)
    near.on_revocation_changed("login")
    assert near.peek(token.session.id) is None
    assert near.peek(other.session.id) is other.session
    near.on_revocation_changed("login")
    near.on_revocation_changed(USER)
    assert near.peek(other.session.id) is None
    (first, stand_in, last) = [list(tokens) for tokens in reported if tokens is not None]
    assert (first, last) == ([token], [token, other])
    assert [each.names for each in stand_in] == [("login",)]


def test_a_token_revoked_during_its_look_up_is_not_certain(near: NearCache) -> None:
    """The answer may be older than the revocation."""
    token = new_token("login", USER)
    assert not look_up(near, token, USER)
    assert look_up(near, token, "another")


def test_tokens_in_an_outage(near: NearCache, clock: Clock) -> None:
    """A token that was certain before the outage stays known for `max_stale`."""
    token = new_token(exp=START + 3 * LIFE)
    assert look_up(near, token)
    clock.advance(LIFE)
    near.end_epoch()
    assert near.peek(token.session.id) is None
    assert near.last_known(token.session.id) is token.session
    near.on_revocation_changed(token.names[0])
    assert near.last_known(token.session.id) is None


@pytest.mark.parametrize("step", [pytest.param(LIFE, id="on"), pytest.param(-LIFE, id="back")])
def test_tokens_in_an_outage_when_the_clock_is_set(step: float) -> None:
    """`max_stale` is time that passed, whatever the wall clock says."""
    wall, passed = Clock(), Clock(5.0)
    near = NearCache(wall, passed, max_sessions=10, max_stale=LIFE)
    token = new_token(exp=START + 3 * LIFE)
    assert not look_up(near, token)
    wall.advance(step)
    passed.advance(LIFE - 1)
    assert near.last_known(token.session.id) is token.session
    passed.advance(1)
    assert near.last_known(token.session.id) is None


def test_a_revocation_here_takes_effect_at_once(clock: Clock) -> None:
    """The token is no longer certain, without an invalidation from Redis."""
    known = KnownSessions(clock, clock, max_sessions=10, max_stale=LIFE, max_ttl=LIFE)
    known.near.begin_epoch()
    token = new_token()
    lookup = known.begin_lookup()
    assert known.record_revocations(token, [None], lookup) is token.session
    known.end_lookup(lookup)
    assert known.near.peek(token.session.id) is token.session
    known.revoke({token.names[0]: Revocation(EVERYTHING, START + LIFE)})
    assert known.near.peek(token.session.id) is None
    assert known.near.last_known(token.session.id) is None
    assert known.near.invalidations == 0
