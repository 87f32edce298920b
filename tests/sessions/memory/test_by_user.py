"""The index of logins by user: who has the most of them."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sidecar.sessions.memory.by_user import ByUser
from sidecar.sessions.memory.login import Login
from tests.sessions.contract import new_login

STEPS = st.lists(st.tuples(st.booleans(), st.sampled_from("abc"), st.integers(0, 5)), max_size=60)


@given(STEPS)
def test_the_heaviest_user(steps: list[tuple[bool, str, int]]) -> None:
    """In any order of additions and removals, it is one of those with the most logins."""
    index, logins = ByUser(), {}
    for adds, sub, number in steps:
        if adds and (sub, number) not in logins:
            login = logins[sub, number] = Login(new_login(sub=sub).session)
            index.add(sub, login)
        elif not adds and (sub, number) in logins:
            index.remove(sub, logins.pop((sub, number)).key)
        held = Counter(sub for sub, _ in logins)
        most = max(held.values(), default=0)
        heaviest = index.heaviest()
        assert bool(heaviest) is (most > 1)
        for login in heaviest:
            assert held[login.session.sub] == most
            assert login is index.of(login.session.sub)[0]
        assert {user: len(index.of(user)) for user in held} == held


def test_several_logins_of_a_user_with_hundreds() -> None:
    """They are the oldest ones, one in 256."""
    index = ByUser()
    added = [Login(new_login().session) for _ in range(600)]
    for login in added:
        index.add("alice", login)
    assert list(index.heaviest()) == added[:3]
