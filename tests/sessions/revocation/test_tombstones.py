"""Tombstones of logins and tokens that ended here."""

from __future__ import annotations

from msgspec.structs import replace

from sidecar.auth.session import foreign_session
from sidecar.sessions.revocation.tombstones import Tombstones
from tests.sessions.contract import new_login

NOW = 1000.0
SESSION = new_login(NOW).session


def test_a_session_is_covered_by_its_token_its_login_or_its_user() -> None:
    """A tombstone of any of the three ends the session, until the tombstone expires."""
    for identity in (SESSION.id, SESSION.sid):
        tombstones = Tombstones()
        tombstones.add(identity, NOW, NOW + 10)
        assert tombstones.is_ended(SESSION, NOW + 9)
        assert not tombstones.is_ended(SESSION, NOW + 10)
    tombstones = Tombstones()
    tombstones.add_user("alice", NOW + 1, NOW + 10)
    assert tombstones.is_ended(SESSION, NOW + 9)
    assert not tombstones.is_ended(SESSION, NOW + 10)
    assert not tombstones.is_ended(replace(SESSION, sub="bob"), NOW + 2)


def test_a_user_can_log_in_again() -> None:
    """A login that begins after a logout of all sessions is live."""
    tombstones = Tombstones()
    tombstones.add_user("alice", NOW, NOW + 10)
    assert not tombstones.is_ended(replace(SESSION, created=NOW + 1), NOW + 2)


def test_foreign_sessions_are_not_ended_together() -> None:
    """They all have an empty sid and user, which must not end all of them."""
    tombstones = Tombstones()
    tombstones.add("", NOW, NOW + 10)
    tombstones.add_user("", NOW, NOW + 10)
    assert not tombstones.is_ended(foreign_session("token"), NOW)


def test_a_longer_end_is_not_shortened() -> None:
    """Of two tombstones for one sid, the later expiry counts."""
    tombstones = Tombstones()
    tombstones.add("sid", NOW, NOW + 10)
    tombstones.add("sid", NOW, NOW + 5)
    assert tombstones.contains("sid", NOW + 9)


def test_expired_tombstones_are_evicted_first() -> None:
    """When it is full, expired ones go first, then the oldest, which it counts."""
    tombstones = Tombstones(limit=10)
    for number in range(10):
        tombstones.add(f"old{number}", NOW, NOW + 1)
    tombstones.add("first", NOW + 2, NOW + 100)
    assert repr(tombstones) == "<Tombstones 1 ids, 0 users, 0 dropped>"
    for number in range(9):
        tombstones.add(f"new{number}", NOW + 2, NOW + 100)
    assert tombstones.contains("first", NOW + 3)
    tombstones.add_user("alice", NOW + 3, NOW + 100)
    assert not tombstones.contains("first", NOW + 3)
    assert tombstones.contains("new8", NOW + 3)
    assert repr(tombstones) == "<Tombstones 9 ids, 1 users, 1 dropped>"


STEP = 500.0


def test_a_clock_set_back_brings_nothing_back() -> None:
    """Tombstones stay; ending again neither moves them back nor shortens them."""
    tombstones = Tombstones()
    tombstones.add("sid", NOW, NOW + 10)
    tombstones.add_user("alice", NOW + 1, NOW + 10)
    assert tombstones.contains("sid", NOW - STEP)
    assert tombstones.is_ended(SESSION, NOW - STEP)
    tombstones.add_user("alice", NOW - STEP, NOW - STEP + 10)
    assert tombstones.is_ended(SESSION, NOW + 9)


def test_a_login_after_a_clock_was_set_back() -> None:
    """It is live, although an earlier logout of all lies in the future; the next one ends it."""
    tombstones = Tombstones()
    tombstones.add_user("alice", NOW, NOW + 10)
    began = replace(SESSION, sid="new", id="new", created=NOW - STEP)
    tombstones.exempt(began, NOW - STEP)
    assert not tombstones.is_ended(began, NOW - STEP)
    assert tombstones.is_ended(replace(began, sid="another"), NOW - STEP)
    tombstones.add_user("alice", NOW - STEP, NOW + 10)
    assert tombstones.is_ended(began, NOW - STEP)


def test_a_login_that_may_be_older_is_not_exempt() -> None:
    """A login that is written late ended with the others, by either clock."""
    tombstones = Tombstones()
    tombstones.add_user("alice", NOW, NOW + 10)
    late = replace(SESSION, created=NOW - 1)
    tombstones.exempt(late, NOW)
    assert tombstones.is_ended(late, NOW)
    tombstones.exempt(late, NOW - STEP)
    assert tombstones.is_ended(late, NOW)


def test_exempt_logins_are_bounded() -> None:
    """The newest hundred are exempt."""
    tombstones = Tombstones()
    tombstones.add_user("alice", NOW, NOW + 10)
    logins = [replace(SESSION, sid=f"s{number}", created=NOW - STEP) for number in range(101)]
    for login in logins:
        tombstones.exempt(login, NOW - STEP)
    assert [tombstones.is_ended(login, NOW - STEP) for login in logins] == [True] + [False] * 100
