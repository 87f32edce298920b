"""The users file: what is read from it, and that all its problems are reported at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import argon2
import pytest

from sidecar.api.passwords import is_supported
from sidecar.api.users import User, Users, load_users, parse_users
from sidecar.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

HASH = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("right")
BCRYPT = "$2y$04$" + "a" * 53

GOOD = f"""
[[user]]
name = "alice"
password_hash = "{HASH}"
roles = ["user"]

[[user]]
name = "Zoë Admin"
password_hash = "{BCRYPT}"
roles = ["user", "admin"]
scopes = ["read", "write:all"]
claims = {{ email = "zoe@example.com", level = 3, tags = ["a"], org = {{ unit = "x" }} }}
disabled = true
"""


def problems_of(text: str) -> list[str]:
    """All problems of a text, as printed."""
    with pytest.raises(ConfigError) as caught:
        parse_users(text, "users.toml")
    return [str(problem) for problem in caught.value.problems]


def entry(**values: str) -> str:
    """A `[[user]]` table that is valid except for `values`."""
    keys = {"name": '"alice"', "password_hash": f'"{HASH}"'} | values
    return "[[user]]\n" + "\n".join(f"{key} = {value}" for key, value in keys.items())


def test_reads_users() -> None:
    """Every field of a user is read, and the claims include roles and scopes."""
    users = parse_users(GOOD, "users.toml")
    assert len(users) == 2
    alice, zoe = users
    assert dict(alice.claims) == {"roles": ["user"], "scopes": []}
    assert not alice.disabled
    assert zoe.name == "Zoë Admin"
    assert zoe.disabled
    assert dict(zoe.claims) == {
        "roles": ["user", "admin"],
        "scopes": ["read", "write:all"],
        "email": "zoe@example.com",
        "level": 3,
        "tags": ["a"],
        "org": {"unit": "x"},
    }


def test_find_is_exact() -> None:
    """Names match only exactly: letter case and surrounding white space count."""
    users = parse_users(GOOD, "users.toml")
    assert users.find("alice") is not None
    for other in ("Alice", "alice ", "", "bob"):
        assert users.find(other) is None


def test_an_unknown_name_has_a_decoy() -> None:
    """An unknown name always gets the same decoy, which costs as much as a real user's hash."""
    users = parse_users(GOOD, "users.toml")
    known = {user.password_hash for user in users}
    assert users.hash_of("alice") == HASH
    decoys = {users.hash_of(f"unknown-{number}") for number in range(50)}
    assert decoys.isdisjoint(known)
    assert {made[:20] for made in decoys} == {encoded[:20] for encoded in known}
    assert users.hash_of("unknown-1") == users.hash_of("unknown-1")


def test_no_users_still_have_a_decoy() -> None:
    """Without any users, a login still costs a password check."""
    assert is_supported(Users().hash_of("alice"))


def test_empty_file_has_no_users() -> None:
    """An empty users file is valid and has no users."""
    assert len(parse_users("", "users.toml")) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("[[user", ["users.toml: expected TOML: "], id="not-toml"),
        pytest.param(
            "user = 3", ["users.toml: user: expected [[user]] tables"], id="user-not-tables"
        ),
        pytest.param("user = [3]", [".name: ", ".password_hash: "], id="user-not-a-table"),
        pytest.param(
            "[admin]", ["users.toml: admin: expected only [[user]] tables"], id="other-table"
        ),
        pytest.param(entry(name='""'), ["[[user]] 1.name: "], id="empty-name"),
        pytest.param(entry(name="3"), ["[[user]] 1.name: "], id="name-no-string"),
        pytest.param(entry(name='"a\\nb"'), ["[[user]] 1.name: "], id="control-in-name"),
        pytest.param(entry(name='" a"'), ["[[user]] 1.name: "], id="space-before-name"),
        pytest.param(
            entry(password_hash='"secret"'),
            ["[[user]] 1 (alice).password_hash: expected an argon2id hash as printed by `sidecar"],
            id="plain-password",
        ),
        pytest.param(
            entry(roles='"admin"'), [".roles: expected a list of words"], id="roles-no-list"
        ),
        pytest.param(
            entry(roles='["a b"]'), [".roles: expected a list of words"], id="role-with-space"
        ),
        pytest.param(
            entry(roles='["a,b"]'), [".roles: expected a list of words"], id="role-with-comma"
        ),
        pytest.param(
            entry(scopes="[1]"), [".scopes: expected a list of words"], id="scope-no-string"
        ),
        pytest.param(
            entry(disabled='"no"'), [".disabled: expected true or false"], id="disabled-no-bool"
        ),
        pytest.param(entry(claims="3"), [".claims: expected a table"], id="claims-no-table"),
        pytest.param(entry(claims='{sub = "x"}'), [".claims.sub: expected a name"], id="own-claim"),
        pytest.param(
            entry(claims="{a = inf}"), [".claims.a: expected a string"], id="infinite-claim"
        ),
        pytest.param(
            entry(claims="{a = {b = [1979-05-27]}}"),
            [".claims.a: expected a string"],
            id="date-in-claim",
        ),
        pytest.param(
            entry(claims='{a = "' + "x" * 5000 + '"}'),
            [".claims: expected at most 4096"],
            id="claims-too-long",
        ),
        pytest.param(
            entry(roles=str([f"role-{n:04}" for n in range(500)])),
            [".claims: expected at most 4096"],
            id="too-many-roles",
        ),
        pytest.param(
            entry(claims='{scp = "x"}'), [".claims.scp: expected a name"], id="scopes-again"
        ),
        pytest.param(
            entry(rolls="[]"), [".rolls: expected one of the keys name, "], id="unknown-key"
        ),
        pytest.param(
            entry() + "\n" + entry(),
            ["[[user]] 2 (alice).name: expected a unique name"],
            id="name-twice",
        ),
        pytest.param(
            "x = 1\n" + entry(roles="3", claims="4") + "\n" + entry(name='"bob"', disabled="1"),
            ["users.toml: x: ", "1 (alice).roles: ", "1 (alice).claims: ", "2 (bob).disabled: "],
            id="all-at-once",
        ),
    ],
)
def test_problems(text: str, expected: list[str]) -> None:
    """Each problem names the file, table, user and key, and all problems are reported together."""
    found = problems_of(text)
    assert len(found) == len(expected)
    for problem, part in zip(found, expected, strict=True):
        assert part in problem


def test_problems_show_no_secret() -> None:
    """A password given instead of a hash is not repeated in the message."""
    assert "hunter2-secret" not in "\n".join(problems_of(entry(password_hash='"hunter2-secret"')))


def test_load_users(tmp_path: Path) -> None:
    """The file is read as UTF-8, and an unreadable file is a ConfigError that names it."""
    path = tmp_path / "users.toml"
    path.write_text(GOOD, encoding="utf-8")
    assert load_users(path).find("Zoë Admin") is not None
    path.write_bytes(b'[[user]]\nname = "\xff"')
    with pytest.raises(ConfigError, match="UTF-8 text"):
        load_users(path)
    with pytest.raises(ConfigError, match=r"missing\.toml: cannot be read: No such file"):
        load_users(tmp_path / "missing.toml")


def test_claims_of() -> None:
    """A removed and a disabled user have no claims."""
    users = Users([User("alice", HASH, {"roles": ["a"]}), User("bob", HASH, {}, disabled=True)])
    assert users.claims_of("alice") == {"roles": ["a"]}
    assert users.claims_of("bob") is users.claims_of("carol") is None


OTHER = HASH[:-1] + ("A" if HASH[-1] != "A" else "B")
BEFORE = User("alice", HASH, {"roles": ["a"]})
DISABLED = User("alice", HASH, {"roles": ["a"]}, disabled=True)


@pytest.mark.parametrize(
    ("before", "after", "ended"),
    [
        pytest.param(BEFORE, BEFORE, False, id="same"),
        pytest.param(BEFORE, User("alice", HASH, {"roles": ["b"]}), False, id="other-roles"),
        pytest.param(BEFORE, None, True, id="removed"),
        pytest.param(BEFORE, DISABLED, True, id="disabled"),
        pytest.param(BEFORE, User("alice", OTHER, {"roles": ["a"]}), True, id="other-password"),
        pytest.param(DISABLED, DISABLED, False, id="disabled-before"),
        pytest.param(DISABLED, BEFORE, False, id="enabled"),
        pytest.param(DISABLED, None, True, id="disabled-then-removed"),
        pytest.param(None, BEFORE, False, id="added"),
    ],
)
def test_whose_logins_end(before: User | None, after: User | None, *, ended: bool) -> None:
    """Logins end when their user is removed or disabled, or gets another password."""
    kept = User("bob", HASH, {})
    earlier = Users([kept, *([before] if before else [])])
    later = Users([*([after] if after else []), kept])
    assert earlier.ended_by(later) == (["alice"] if ended else [])


def test_reprs_show_no_hash() -> None:
    """The `repr` of a user and of all users shows no hash."""
    user = User("alice", HASH, {"roles": []})
    assert "argon2" not in f"{user!r} {Users([user])!r}"
    assert repr(Users([user])) == "<Users 1>"
