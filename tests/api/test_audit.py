"""The audit log: who logged in or out, was refused or ended, from where and by which means."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.api.guesses import GuessLimits
from sidecar.api.session_limit import SessionLimit
from sidecar.sessions.memory.local import LocalStore
from sidecar.telemetry.audit import LOGGER, Event, Subject, audit
from tests.api.control_plane import BROWSER, bearer, with_cookie

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.api.control_plane import Api, Clock, Starter

FIELDS: Final = {"event", "result", "user", "issuer", "sid", "method", "client", "request_id"}
HERE: Final = {"X-Forwarded-For": "192.0.2.7", "X-Request-Id": "r-1"}
Lines = list[dict[str, Any]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], Lines]:
    """Return a function that returns the audit lines since the last call, as their fields."""
    caplog.set_level(logging.INFO)
    own = set(vars(logging.makeLogRecord({}))) | {"message"}

    def take() -> Lines:
        found = [
            {name: value for name, value in vars(each).items() if name not in own}
            for each in caplog.records
            if each.name == LOGGER
        ]
        caplog.clear()
        return found

    return take


async def attempt(api: Api, name: str, password: str, *, form: bool = False) -> int:
    """Try to log in, and return the answer's status."""
    sent = {"username": name, "password": password}
    headers = HERE | (BROWSER if form else {})
    body: dict[str, Any] = {"data": sent} if form else {"json": sent}
    answer = await api.client.post("/auth/login", headers=headers, allow_redirects=False, **body)
    return answer.status


@pytest.mark.parametrize("form", [pytest.param(False, id="json"), pytest.param(True, id="form")])
async def test_login(api: Api, lines: Callable[[], Lines], *, form: bool) -> None:
    """A login names its user, issuer, session, address, method and request."""
    await attempt(api, "alice", "pw-alice", form=form)
    (line,) = lines()
    ((info),) = await api.store.sessions_of("alice")
    assert line == {
        "event": "login",
        "result": "success",
        "user": "alice",
        "issuer": api.current.issuer.issuer,
        "sid": info.sid,
        "method": "form" if form else "password",
        "client": "192.0.2.7",
        "request_id": "r-1",
    }


@pytest.mark.parametrize("form", [pytest.param(False, id="json"), pytest.param(True, id="form")])
@pytest.mark.parametrize(
    ("name", "password", "known"),
    [
        pytest.param("alice", "wrong", True, id="wrong-password"),
        pytest.param("gone", "pw-gone", True, id="disabled"),
        pytest.param("hunter2", "x", False, id="unknown"),
        pytest.param("alice\nadmin result=success", "x", False, id="several-lines"),
        pytest.param("a" * 5000, "x", False, id="long"),
    ],
)
async def test_refused(
    api: Api, lines: Callable[[], Lines], name: str, password: str, *, known: bool, form: bool
) -> None:
    """A refused login names its user only if there is one: it may be a mistyped password."""
    assert await attempt(api, name, password, form=form) == 401
    (line,) = lines()
    assert (line["event"], line["result"], line["user"]) == ("login", "refused", name * known)
    assert (line["client"], line["sid"]) == ("192.0.2.7", "")
    assert known or name not in str(line)


async def test_limited(start: Starter, lines: Callable[[], Lines]) -> None:
    """When a limit begins, one warning says so; attempts that it refuses write none."""
    api = await start()
    api.change(guesses=GuessLimits(user_address=2))
    for _ in range(5):
        await attempt(api, "alice", "wrong")
    *_, line = found = lines()
    assert [each["result"] for each in found] == ["refused", "refused", "limited"]
    assert (line["user"], line["limit"]) == ("alice", "user_address")


async def test_from_another_site(api: Api, lines: Callable[[], Lines]) -> None:
    """A sign-in form of another site is refused and found, without the name that it sent."""
    headers = HERE | {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    form = {"username": "alice", "password": "pw-alice"}
    assert (await api.client.post("/auth/login", data=form, headers=headers)).status == 403
    (line,) = lines()
    assert (line["event"], line["result"], line["user"]) == ("login", "cross_origin", "")


async def test_too_many(api: Api, lines: Callable[[], Lines]) -> None:
    """Ending the oldest login names the user and that login; refusing the new one, the new one."""
    first = await api.login()
    api.change(session_limit=SessionLimit(most=1))
    (begun,) = lines()
    await api.login()
    ended, login = lines()
    assert (ended["event"], ended["result"]) == ("session_ended", "too_many")
    assert (ended["user"], ended["sid"]) == ("alice", begun["sid"])
    assert login["result"] == "success"
    assert not await api.is_live(first["access_token"])
    api.change(session_limit=SessionLimit(most=1, refuse=True))
    await attempt(api, "alice", "pw-alice")
    (refused,) = lines()
    assert (refused["event"], refused["result"], refused["user"]) == ("login", "too_many", "alice")


async def test_refresh_and_theft(api: Api, clock: Clock, lines: Callable[[], Lines]) -> None:
    """A refresh names user and login; a reused token is a warning that says how it was seen."""
    tokens = await api.login()
    (login,) = lines()
    await api.refresh(tokens["refresh_token"], **HERE)
    clock.now += 60
    await api.refresh(tokens["refresh_token"], **HERE)
    await api.refresh("not-a-token", **HERE)
    good, theft, bad = lines()
    for line in (good, theft):
        assert (line["event"], line["user"], line["sid"]) == ("refresh", "alice", login["sid"])
        assert (line["client"], line["method"]) == ("192.0.2.7", "refresh")
    assert (good["result"], theft["result"], bad["result"]) == ("success", "reused", "invalid")
    assert theft["shown"] == "after it was forgotten"
    assert (bad["user"], bad["sid"]) == ("", "")


async def test_logout(api: Api, clock: Clock, lines: Callable[[], Lines]) -> None:
    """A logout by a token, an expired token or a cookie names the user and the login."""
    tokens, value, old = await api.login(), await api.cookie(), await api.login()
    sids = [line["sid"] for line in lines()]
    await api.client.post("/auth/logout", headers=bearer(tokens["access_token"]) | HERE)
    await api.client.post("/auth/logout", headers=with_cookie(value) | BROWSER | HERE)
    clock.now += 1000
    await api.client.post("/auth/logout", headers=bearer(old["access_token"]) | HERE)
    found = lines()
    assert [line["sid"] for line in found] == sids
    for line in found:
        assert (line["event"], line["result"], line["user"]) == ("logout", "success", "alice")
        assert (line["client"], line["request_id"]) == ("192.0.2.7", "r-1")
    await api.client.post("/auth/logout", headers=with_cookie("not-one-of-ours") | BROWSER)
    (unknown,) = lines()
    assert (unknown["user"], unknown["sid"]) == ("", "")


async def test_logout_everywhere(api: Api, lines: Callable[[], Lines]) -> None:
    """A logout of every login says how many there were, and whose."""
    await api.login()
    tokens = await api.login()
    lines()
    await api.client.post("/auth/logout?all=true", headers=bearer(tokens["access_token"]) | HERE)
    everywhere, _ = lines()
    assert (everywhere["event"], everywhere["user"]) == ("logout_all", "alice")
    assert everywhere["ended"] == 2


async def test_a_login_ended_from_another(api: Api, lines: Callable[[], Lines]) -> None:
    """Ending one login names it, its user, and the login that ended it."""
    await api.login()
    tokens = await api.login()
    first, second = lines()
    headers = bearer(tokens["access_token"]) | HERE
    await api.client.delete(f"/auth/sessions/{first['sid']}", headers=headers)
    (line,) = lines()
    assert (line["event"], line["user"]) == ("session_ended", "alice")
    assert (line["sid"], line["by"]) == (first["sid"], second["sid"])


async def test_every_line_has_every_field(
    start: Starter, clock: Clock, lines: Callable[[], Lines]
) -> None:
    """Whatever happens, a line has all fields, so that one query finds all of them."""
    api = await start(LocalStore(clock))
    tokens = await api.login()
    await attempt(api, "nobody", "x")
    new = await (await api.refresh(tokens["refresh_token"])).json()
    await api.client.post("/auth/logout?all=true", headers=bearer(new["access_token"]))
    found = lines()
    assert {line["event"] for line in found} == {"login", "refresh", "logout", "logout_all"}
    for line in found:
        assert line.keys() >= FIELDS
        assert {type(line[name]) for name in FIELDS} == {str}


def test_values_are_bounded(lines: Callable[[], Lines]) -> None:
    """A value of any length takes no more than a few hundred characters of a line."""
    audit("login", Event.LOGIN, Subject("a" * 10_000))
    (line,) = lines()
    assert line["user"] == "a" * 256 + "…"
