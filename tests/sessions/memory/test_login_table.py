"""The table of logins: which of them it gives up when it is full."""

from __future__ import annotations

from msgspec.structs import replace

from sidecar.sessions.memory.login import Login
from sidecar.sessions.memory.login_table import LoginTable
from tests.sessions.contract import new_login

NOW = 1000.0


def filled(number: int, used: range = range(0)) -> LoginTable:
    """A full table of copies `s0` to `s<number - 1>`; those of `used` were used again."""
    table = LoginTable(number)
    for each in range(number):
        session = replace(new_login(NOW).session, sid=f"s{each}", sub=f"user-{each}")
        seen = NOW + 5 if each in used else NOW
        table.add(Login(session, seen=seen, unused_since=NOW))
    return table


def evict(table: LoginTable) -> list[str]:
    """Make room for a copy. Returns what was evicted."""
    evicted = [login.key for login in table.surplus(spread=False)]
    for key in evicted:
        assert table.remove(key) is not None
    return evicted


def test_room() -> None:
    """A table that is not full gives up nothing."""
    table = filled(4)
    table.limit = 5
    assert evict(table) == []


def test_logins_that_were_not_used_again_go_first() -> None:
    """The oldest of them goes."""
    table = filled(5, used=range(2))
    table.limit = 3
    assert [evict(table) for _ in range(3)] == [["s2"], ["s3"], ["s4"]]


def test_the_oldest_goes_if_all_were_used() -> None:
    """There is always room for the next one."""
    table = filled(1024, used=range(1024))
    assert evict(table) == ["s0", "s1", "s2", "s3", "s4"]


def test_several_at_once() -> None:
    """A large table gives up one in 256, and nothing that was used again before them."""
    table = filled(1024, used=range(3, 600))
    assert evict(table) == ["s0", "s1", "s2", "s600", "s601"]


def test_logins_that_come_and_go() -> None:
    """What the table keeps for each of them goes as well; the others keep their order."""
    table = filled(5, used=range(1, 3))
    for number in range(1000):
        session = replace(new_login(NOW).session, sid=f"t{number}", sub="")
        table.add(Login(session, seen=NOW, unused_since=NOW))
        table.remove(f"t{number}")
    assert evict(table) == ["s0"]
    table.limit = 4
    assert evict(table) == ["s3"]


def test_uses_do_not_matter_for_logins_of_this_store() -> None:
    """If every user has one login, the oldest of all goes, used or not."""
    table = filled(4, used=range(1))
    assert [login.key for login in table.surplus(spread=True)] == ["s0"]


def test_sessions_of_nobody_known() -> None:
    """What another program wrote names no user, so it is not found by one, and is not spread."""
    table = LoginTable(2)
    for token in ("a", "b"):
        session = replace(new_login(NOW).session, id=token, sid="", sub="")
        table.add(Login(session))
    assert table.of("") == ()
    assert [login.key for login in table.surplus(spread=True)] == ["a"]
    assert table.remove("a") is not None
    assert len(table) == 1
