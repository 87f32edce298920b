"""MAX_SESSIONS: the oldest login of a user ends, or the new one is refused."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from sidecar.api.session_limit import SessionLimit
from tests.api.control_plane import BROWSER, problem, with_cookie

if TYPE_CHECKING:
    from tests.api.control_plane import Api, Clock


async def test_the_oldest_login_ends(
    api: Api, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Oldest by the time of the login: a refresh does not make a login younger."""
    caplog.set_level("INFO")
    api.change(session_limit=SessionLimit(most=3))
    logins = []
    for _ in range(3):
        logins.append(await api.login())
        clock.now += 60
    logins[0] = await api.rotate(logins[0]["refresh_token"])
    other = await api.login("admin")
    assert await api.is_live(logins[0]["access_token"])
    new = await api.login()
    assert not await api.is_live(logins[0]["access_token"])
    assert (await api.refresh(logins[0]["refresh_token"])).status == 401
    for tokens in (*logins[1:], new, other):
        assert await api.is_live(tokens["access_token"])
    assert len(await api.store.sessions_of("alice")) == 3
    assert "login ended: its user has too many" in caplog.text


async def test_refreshes_are_no_logins(api: Api) -> None:
    """A login that is refreshed counts once."""
    api.change(session_limit=SessionLimit(most=2))
    first, tokens = await api.login(), await api.login()
    for _ in range(5):
        tokens = await api.rotate(tokens["refresh_token"])
    assert await api.is_live(first["access_token"])


async def test_a_lowered_limit_is_reached_step_by_step(api: Api) -> None:
    """One login ends twenty others at most, so that it does not take long."""
    for _ in range(30):
        await api.login()
    api.change(session_limit=SessionLimit(most=2))
    await api.login()
    assert len(await api.store.sessions_of("alice")) == 11
    new = await api.login()
    assert len(await api.store.sessions_of("alice")) == 2
    assert await api.is_live(new["access_token"])


async def test_a_login_is_refused(api: Api) -> None:
    """With `refuse`, the new login gets 403 and no credentials; the others are untouched."""
    api.change(session_limit=SessionLimit(most=2, refuse=True))
    first, second = await api.login(), await api.login()
    credentials = {"username": "alice", "password": "pw-alice"}
    answer = await api.client.post("/auth/login", json=credentials)
    assert answer.status == 403
    assert "signed in too many times" in (await problem(answer))["detail"]
    assert api.logins("password", "too_many") == 1
    assert api.logins("password", "success") == 2
    assert len(await api.store.sessions_of("alice")) == 2
    assert await api.is_live(first["access_token"])
    await api.store.revoke_session(
        (await (await api.user_of(second["access_token"])).json())["sid"]
    )
    assert await api.is_live((await api.login())["access_token"])


async def test_a_browser_is_refused_with_a_page(api: Api) -> None:
    """The page says what to do. Signing in again in a browser that is signed in replaces that."""
    api.change(session_limit=SessionLimit(most=1, refuse=True))
    cookie = await api.cookie()
    form = {"username": "alice", "password": "pw-alice"}
    answer = await api.client.post("/auth/login", data=form, headers=BROWSER, allow_redirects=False)
    assert answer.status == 403
    assert answer.content_type == "text/html"
    assert "Sign out somewhere else" in await answer.text()
    assert "Set-Cookie" not in answer.headers
    again = await api.client.post(
        "/auth/login", data=form, headers=with_cookie(cookie), allow_redirects=False
    )
    assert again.status == 303


@pytest.mark.parametrize("refuse", [pytest.param(False, id="end"), pytest.param(True, id="refuse")])
async def test_logins_at_once(api: Api, *, refuse: bool) -> None:
    """Logins that race keep the limit."""
    api.change(session_limit=SessionLimit(most=2, refuse=refuse))
    credentials = {"username": "alice", "password": "pw-alice"}
    answers = await asyncio.gather(
        *(api.client.post("/auth/login", json=credentials) for _ in range(10))
    )
    assert len(await api.store.sessions_of("alice")) == 2
    live = [
        await api.is_live((await answer.json())["access_token"])
        for answer in answers
        if answer.status == 200
    ]
    assert live.count(True) == 2


async def test_no_limit(api: Api) -> None:
    """0 allows any number of logins."""
    api.change(session_limit=SessionLimit(most=0))
    for _ in range(3):
        await api.login()
    assert len(await api.store.sessions_of("alice")) == 3
