"""Access tokens that a refresh has replaced, in the stores in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.sessions.memory.local import LocalStore
from sidecar.sessions.memory.near import NearCache
from sidecar.sessions.memory.replaced_tokens import ReplacedTokens
from tests.sessions.contract import new_login, successor_of

if TYPE_CHECKING:
    from sidecar.sessions.memory.login import Login
    from tests.peers.clock import Clock

GRACE = 10.0


def test_one_for_each_login(clock: Clock) -> None:
    """The next one of a login ends the one before it, and says so."""
    tokens: dict[str, Login] = {}
    replaced = ReplacedTokens(tokens)
    first, second = new_login(clock.now).session, new_login(clock.now).session
    assert replaced.replace("sid", first) == ""
    assert replaced.replace("sid", first) == ""
    assert replaced.replace("sid", second) == first.id
    assert list(tokens) == [second.id]
    assert repr(replaced) == "<ReplacedTokens of 1 logins>"
    assert replaced.end("sid") == second.id
    assert replaced.end("sid") == ""
    assert tokens == {}


def test_no_memory_is_kept(clock: Clock) -> None:
    """A replaced token is removed when its grace has ended, and no sooner."""
    store = LocalStore(clock)
    grant = new_login(clock.now)
    store.put(grant)
    store.put(successor_of(grant, clock.now, GRACE))
    assert len(store.tokens) == 2
    clock.advance(GRACE - 1)
    store.sweep(clock.now)
    assert len(store.tokens) == 2
    clock.advance(1)
    store.sweep(clock.now)
    assert len(store.tokens) == 1
    assert len(store) == 1


def test_listeners_hear_of_both(clock: Clock) -> None:
    """A refresh reports the replaced token, and a logout both tokens of the login."""
    store, heard = LocalStore(clock), list[str | None]()
    grant = new_login(clock.now)
    successor = successor_of(grant, clock.now, GRACE)
    store.put(grant)
    store.set_change_listener(heard.append)
    store.put(successor)
    assert heard == [grant.session.id]
    heard.clear()
    store.drop(grant.session.sid)
    assert sorted(filter(None, heard)) == sorted((grant.session.id, successor.session.id))


def test_an_invalidation_of_a_replaced_token(clock: Clock) -> None:
    """Redis reports every change of it, which says nothing about its successor."""
    near = NearCache(clock, clock, max_sessions=10, max_stale=600.0)
    near.begin_epoch()
    grant = new_login(clock.now)
    successor = successor_of(grant, clock.now, GRACE)
    near.add_grant(grant)
    near.add_grant(successor)
    assert near.last_known(grant.session.id) is not None
    near.on_session_changed(grant.session.id)
    assert near.last_known(grant.session.id) is None
    assert near.last_known(successor.session.id) == successor.session
    assert near.store.refresh_record(successor.refresh_id or "") == successor.refresh
    near.on_session_changed(successor.session.id)
    assert near.last_known(successor.session.id) is None


def test_a_replaced_token_that_is_read_again(clock: Clock) -> None:
    """It does not take the place of its successor in the near cache."""
    near = NearCache(clock, clock, max_sessions=10, max_stale=600.0)
    near.begin_epoch()
    grant = new_login(clock.now)
    successor = successor_of(grant, clock.now, GRACE)
    replaced = successor.replaced(clock.now)
    assert replaced is not None
    for session in (successor.session, replaced):
        lookup = near.begin_lookup()
        near.add_session(session, lookup)
        near.end_lookup(lookup)
    assert near.peek(successor.session.id) == successor.session
    assert near.peek(replaced.id) is None
