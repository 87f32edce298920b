"""The names of keys: prefix, realm, and what is read from them again."""

from __future__ import annotations

from sidecar.sessions.redis.key_names import DEFAULT_PREFIX, KeyNames

NAMES = KeyNames(DEFAULT_PREFIX, "0123456789abcdef")


def test_the_names_of_the_first_version() -> None:
    """By default, sessions are where other programs look for them."""
    assert NAMES.token("a.b.c") == b"session:token:a.b.c"
    assert NAMES.refresh("id") == b"session:refresh:id"


def test_the_realm() -> None:
    """What belongs to a user, a login or a revocation is named with the realm."""
    assert NAMES.login("s") == NAMES.login(b"s") == b"session:sid:0123456789abcdef:s"
    assert NAMES.user("alice") == b"session:user:0123456789abcdef:alice"
    assert NAMES.revocation("ab") == b"session:denied:0123456789abcdef:ab"
    assert NAMES.logins == b"session:sid:0123456789abcdef:*"


def test_the_prefix() -> None:
    """Every name begins with it."""
    names = KeyNames("orders:", "r")
    found = (names.token("t"), names.refresh("t"), names.login("t"), names.user("t"))
    assert all(name.startswith(b"orders:") for name in (*found, names.revocation("t")))
    assert names.token_in(NAMES.token("t")) is None
    assert repr(names) == "<KeyNames orders:*>"


def test_names_are_read_again() -> None:
    """Reading returns what was named, also for text that is not valid UTF-8."""
    assert NAMES.token_in(NAMES.token("t\udc80")) == "t\udc80"
    assert NAMES.revocation_in(NAMES.revocation("ab")) == "ab"
    assert NAMES.sid_in(NAMES.login("s")) == b"s"
    assert NAMES.token_in(NAMES.revocation("ab")) is None
    assert NAMES.revocation_in(NAMES.token("t")) is None
    assert NAMES.revocation_in(KeyNames(DEFAULT_PREFIX, "another").revocation("ab")) is None
