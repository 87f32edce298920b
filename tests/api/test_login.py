"""The login endpoint: tokens for JSON, a cookie for a form, one answer to every wrong login."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.api import passwords
from sidecar.api.passwords import PasswordChecker
from sidecar.api.users import Users
from sidecar.auth.session import token_id
from sidecar.sessions.memory.local import LocalStore
from tests.api.control_plane import BROWSER, START, bearer, problem, users_of, with_cookie

if TYPE_CHECKING:
    from sidecar.auth.session import Grant
    from tests.api.control_plane import Api, Clock, Starter

GOOD = {"username": "alice", "password": "pw-alice"}


async def test_tokens(api: Api) -> None:
    """A correct login returns a pair of working tokens, in a response that is not cached."""
    answer = await api.client.post("/auth/login", json=GOOD)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers
    tokens = await answer.json()
    assert set(tokens) == {"access_token", "refresh_token", "token_type", "expires_in"}
    assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 900)
    user = await (await api.user_of(tokens["access_token"])).json()
    assert (user["sub"], user["roles"], user["scopes"]) == ("alice", ["user"], ["read"])
    assert user["email"] == "alice@example.com"
    assert api.logins("password", "success") == 1


async def test_every_login_is_a_new_session(api: Api) -> None:
    """Two logins of one user at the same time get different sessions and tokens."""
    first, second = await api.login(), await api.login()
    assert first["access_token"] != second["access_token"]
    sessions = await api.store.sessions_of("alice")
    assert len({info.sid for info in sessions}) == 2


@pytest.mark.parametrize(
    ("username", "password"),
    [
        pytest.param("alice", "wrong", id="wrong-password"),
        pytest.param("nobody", "pw-alice", id="unknown-user"),
        pytest.param("gone", "pw-gone", id="disabled-user"),
        pytest.param("Alice", "pw-alice", id="other-case"),
        pytest.param("", "", id="empty"),
        pytest.param("alice", "x" * 40_000, id="huge-password"),
        pytest.param("alice", "pw-alice\x00", id="nul"),
    ],
)
async def test_wrong_logins_are_one_answer(
    api: Api, monkeypatch: pytest.MonkeyPatch, username: str, password: str
) -> None:
    """Every wrong login gets the same response after exactly one password check."""
    checked: list[str] = []
    verify = passwords.verify

    def counting(encoded: str, given: str) -> bool:
        checked.append(encoded)
        return verify(encoded, given)

    monkeypatch.setattr(passwords, "verify", counting)
    answer = await api.client.post(
        "/auth/login",
        json={"username": username, "password": password},
        headers={"X-Request-Id": "r1"},
    )
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="sidecar"'
    assert await problem(answer) == {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "detail": "Wrong user name or password.",
        "request_id": "r1",
    }
    assert len(checked) == 1
    assert checked[0].startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert api.logins("password", "refused") == 1
    assert await api.store.sessions_of("alice") == []


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        pytest.param(b"", 400, "The body is not valid JSON.", id="empty"),
        pytest.param(b"username=alice", 400, "The body is not valid JSON.", id="not-json"),
        pytest.param(b'{"username":"\xff"}', 400, "not valid JSON.", id="not-utf-8"),
        pytest.param(b'{"username":"\\ud800"}', 400, "not valid JSON.", id="lone-surrogate"),
        pytest.param(b"[" * 5000, 400, "Expected `object`", id="too-deep"),
        pytest.param(b"[]", 400, "Expected `object`, got `array`.", id="array"),
        pytest.param(b"null", 400, "Expected `object`, got `null`.", id="null"),
        pytest.param(b"{}", 400, "missing required field `username`.", id="no-fields"),
        pytest.param(
            b'{"username":"alice"}', 400, "missing required field `password`.", id="no-password"
        ),
        pytest.param(
            b'{"username":"alice","password":7}',
            400,
            "Expected `str`, got `int` - at `$.password`.",
            id="wrong-type",
        ),
        pytest.param(b'{"a":"' + b"x" * 70_000 + b'"}', 413, "larger than 64 KiB", id="too-large"),
    ],
)
async def test_bad_bodies(api: Api, body: bytes, status: int, detail: str) -> None:
    """An unusable body gets an error that states what was expected, and no password is checked."""
    answer = await api.client.post(
        "/auth/login", data=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status == status
    found = (await problem(answer))["detail"]
    assert detail in found
    if status == 400:
        assert '"username" and "password"' in found
    assert api.logins("password", "refused") == 0


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", "text/json"])
async def test_other_content_types(api: Api, kind: str) -> None:
    """Only JSON and URL-encoded forms are accepted, so another site's form cannot pass for JSON."""
    answer = await api.client.post(
        "/auth/login",
        data=b'{"username":"alice","password":"pw-alice"}',
        headers={"Content-Type": kind},
    )
    assert answer.status == 415
    assert "application/json" in (await problem(answer))["detail"]


@pytest.mark.parametrize(
    "users",
    [
        pytest.param(Users(), id="removed"),
        pytest.param(users_of("alice"), id="disabled"),
        pytest.param(users_of(), id="other-hash"),
    ],
)
async def test_a_user_who_changes_during_the_check(
    api: Api, monkeypatch: pytest.MonkeyPatch, users: Users
) -> None:
    """A password that was right when its check began is refused if the user has changed since."""
    verify = passwords.verify

    def reload_meanwhile(encoded: str, given: str) -> bool:
        api.change(users=users)
        return verify(encoded, given)

    monkeypatch.setattr(passwords, "verify", reload_meanwhile)
    assert (await api.client.post("/auth/login", json=GOOD)).status == 401
    assert await api.store.sessions_of("alice") == []
    assert api.logins("password", "refused") == 1


async def test_busy(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    """While all password checks are in use, a login gets 503 and Retry-After."""
    gate = threading.Event()
    monkeypatch.setattr(passwords, "verify", lambda *_: gate.wait(10))
    api = await start(passwords=PasswordChecker(threads=1, waiting=0))
    running = asyncio.create_task(api.client.post("/auth/login", json=GOOD))
    try:
        busy = await _first_busy(api, json=GOOD)
    finally:
        gate.set()
    assert (await running).status == 200
    assert int(busy.headers["Retry-After"]) > 0
    assert api.logins("password", "busy") >= 1


async def test_busy_form(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser gets the sign-in page with a status message, not with an error of the user."""
    gate = threading.Event()
    monkeypatch.setattr(passwords, "verify", lambda *_: gate.wait(10))
    api = await start(passwords=PasswordChecker(threads=1, waiting=0))
    running = asyncio.create_task(api.client.post("/auth/login", json=GOOD))
    try:
        answer = await _first_busy(api, data=GOOD, headers=BROWSER)
        page = await answer.text()
    finally:
        gate.set()
    assert (await running).status == 200
    assert int(answer.headers["Retry-After"]) > 0
    assert "Try again in a moment." in page
    assert 'role="status"' in page
    assert 'role="alert"' not in page
    assert api.logins("form", "busy") == 1


async def _first_busy(api: Api, **request: Any) -> Any:
    """Log in until one attempt finds the only thread in use, and return that response."""
    async with asyncio.timeout(5):
        while True:
            attempt = asyncio.create_task(api.client.post("/auth/login", **request))
            done, _ = await asyncio.wait([attempt], timeout=0.5)
            if done and attempt.result().status == 503:
                return attempt.result()


async def test_cookie(api: Api, clock: Clock) -> None:
    """A form login sets one opaque, host-bound cookie and redirects to the requested target."""
    answer = await api.client.post(
        "/auth/login", data={**GOOD, "rd": "/a?b=c"}, headers=BROWSER, allow_redirects=False
    )
    assert answer.status == 303
    assert answer.headers["Location"] == "/a?b=c"
    assert answer.headers["Cache-Control"] == "no-store"
    [header] = answer.headers.getall("Set-Cookie")
    value = answer.cookies["__Host-session"].value
    assert len(value) == 43
    parts = set(header.split("; ")[1:])
    assert parts == {"HttpOnly", "Secure", "SameSite=Lax", "Path=/", f"Max-Age={7 * 86400}"}
    session = await api.store.get(token_id(value.encode()))
    assert session is not None
    assert (session.sub, session.exp) == ("alice", clock.now + 7 * 86400)
    user = await api.client.get("/auth/userinfo", headers=with_cookie(value))
    assert (await user.json(content_type=None))["sub"] == "alice"
    assert api.logins("form", "success") == 1


@pytest.mark.parametrize(
    ("rd", "location"),
    [
        pytest.param("/deep/link?x=1", "/deep/link?x=1", id="path"),
        pytest.param("https://app.example/x", "https://app.example/x", id="own-origin"),
        pytest.param("https://other.example/x", "https://other.example/x", id="allowed-origin"),
        pytest.param("https://evil.example/", "/", id="foreign"),
        pytest.param("//evil.example/", "/", id="network-path"),
        pytest.param("/\\evil.example", "/", id="backslash"),
        pytest.param("", "/", id="empty"),
    ],
)
async def test_redirects(api: Api, rd: str, location: str) -> None:
    """A login redirects only to its own origin or to an allowed one."""
    answer = await api.client.post(
        "/auth/login", data={**GOOD, "rd": rd}, headers=BROWSER, allow_redirects=False
    )
    assert (answer.status, answer.headers["Location"]) == (303, location)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"Origin": "https://app.example"}, 303, id="own-origin"),
        pytest.param({"Sec-Fetch-Site": "same-origin"}, 303, id="fetch-metadata"),
        pytest.param({"Origin": "https://evil.example"}, 403, id="foreign-origin"),
        pytest.param({"Origin": "null"}, 403, id="null-origin"),
        pytest.param({"Sec-Fetch-Site": "cross-site"}, 403, id="cross-site"),
        pytest.param({"Sec-Fetch-Site": "same-site"}, 403, id="same-site"),
        pytest.param({}, 403, id="neither"),
    ],
)
async def test_forms_of_other_sites(api: Api, headers: dict[str, str], status: int) -> None:
    """A form on another site cannot log the user in, neither as themselves nor as the attacker."""
    base = {key: value for key, value in BROWSER.items() if key not in {"Origin", "Accept"}}
    answer = await api.client.post(
        "/auth/login", data=GOOD, headers={**base, **headers}, allow_redirects=False
    )
    assert answer.status == status
    assert ("Set-Cookie" in answer.headers) is (status == 303)
    if status == 403:
        assert "another site" in (await problem(answer))["detail"]


async def test_wrong_form(api: Api) -> None:
    """A wrong form login gets 401 and the page again, with the user name but not the password."""
    answer = await api.client.post(
        "/auth/login",
        data={"username": "alice", "password": "hunter2", "rd": "/x"},
        headers=BROWSER,
    )
    page = await answer.text()
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert "Wrong user name or password." in page
    assert 'value="alice"' in page
    assert 'value="/x"' in page
    assert "hunter2" not in page
    assert "Set-Cookie" not in answer.headers
    assert api.logins("form", "refused") == 1


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("username=alice", id="no-password"),
        pytest.param("", id="empty"),
        pytest.param("username=%ff&password=x", id="not-utf-8"),
        pytest.param("&".join(f"a{n}=x" for n in range(100)), id="too-many-fields"),
        pytest.param('{"username":"alice","password":"pw-alice"}', id="json-by-mistake"),
    ],
)
async def test_bad_forms(api: Api, body: str) -> None:
    """A form with missing fields gets 400; for programs, a problem document names the fields."""
    headers = {**BROWSER, "Content-Type": "application/x-www-form-urlencoded", "Accept": "*/*"}
    answer = await api.client.post("/auth/login", data=body, headers=headers)
    assert answer.status == 400
    assert "Expected" in (await problem(answer))["detail"]


@pytest.mark.parametrize("beside", [{}, bearer("null")], ids=["alone", "beside-another-token"])
async def test_no_session_is_taken_over(api: Api, beside: dict[str, str]) -> None:
    """A login ends the session that the browser already had and issues a new cookie value."""
    planted = await api.cookie("admin")
    headers = {**with_cookie(planted), **beside}
    answer = await api.client.post("/auth/login", data=GOOD, headers=headers, allow_redirects=False)
    value = answer.cookies["__Host-session"].value
    assert value != planted
    assert await api.store.get(token_id(planted.encode())) is None
    assert await api.store.sessions_of("admin") == []
    session = await api.store.get(token_id(value.encode()))
    assert session is not None
    assert session.sub == "alice"


async def test_errors_lead_to_the_page(api: Api) -> None:
    """A browser without a session gets an error page with a link to the sign-in page."""
    answer = await api.client.get("/auth/userinfo", headers=BROWSER)
    assert (answer.status, answer.content_type) == (401, "text/html")
    assert 'href="/auth/login">Go to the sign-in page</a>' in await answer.text()


async def test_the_page(api: Api) -> None:
    """The page keeps an allowed redirect target, and drops a foreign one."""
    answer = await api.client.get("/auth/login?rd=/x%3Fy", headers=BROWSER)
    page = await answer.text()
    assert answer.status == 200
    assert answer.content_type == "text/html"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src")
    assert 'value="/x?y"' in page
    assert "Signed in as" not in page
    foreign = await api.client.get("/auth/login?rd=https://evil.example/", headers=BROWSER)
    assert "evil" not in await foreign.text()


@pytest.mark.parametrize(
    ("headers", "warned"),
    [
        pytest.param({}, True, id="plain"),
        pytest.param({"X-Forwarded-Host": "10.0.0.7:5005"}, True, id="address"),
        pytest.param({"X-Forwarded-Host": "localhost.example"}, True, id="almost-local"),
        pytest.param({"X-Forwarded-Proto": "https"}, False, id="https"),
        pytest.param({"Sec-Fetch-Site": "none"}, False, id="https-of-an-unknown-proxy"),
        pytest.param({"X-Forwarded-Host": "localhost:5005"}, False, id="localhost"),
        pytest.param({"X-Forwarded-Host": "127.0.0.1:5005"}, False, id="loopback"),
        pytest.param({"X-Forwarded-Host": "[::1]:5005"}, False, id="loopback-ipv6"),
        pytest.param({"X-Forwarded-Host": "app.LOCALHOST"}, False, id="below-localhost"),
    ],
)
async def test_the_page_says_that_the_cookie_will_not_be_kept(
    api: Api,
    headers: dict[str, str],
    warned: bool,  # noqa: FBT001 — a column of the table
) -> None:
    """Over plain HTTP, the page says why it comes back, before and after a login."""
    browser = {**BROWSER, "X-Forwarded-Proto": "http", "Origin": "http://app.example", **headers}
    note = '<p class="notice" role="status">This page was opened over plain HTTP. Browsers do not'
    page = await (await api.client.get("/auth/login?rd=/x", headers=browser)).text()
    assert (note in page) is warned
    if "X-Forwarded-Host" not in headers:
        form = {"username": "alice", "password": "wrong"}
        browser["Origin"] = f"{browser['X-Forwarded-Proto']}://app.example"
        again = await api.client.post("/auth/login", data=form, headers=browser)
        assert again.status == 401
        assert (note in await again.text()) is warned


async def test_the_page_does_not_warn_who_is_signed_in(api: Api) -> None:
    """A cookie that came back was kept."""
    value = await api.cookie()
    headers = with_cookie(value, **{"X-Forwarded-Proto": "http"})
    page = await (await api.client.get("/auth/login", headers=headers)).text()
    assert "Signed in as <strong>alice</strong>" in page
    assert "plain HTTP" not in page


async def test_the_page_when_signed_in(api: Api) -> None:
    """A user with a live session sees their name and the form; a dead session shows no name."""
    value = await api.cookie()
    page = await (await api.client.get("/auth/login", headers=with_cookie(value))).text()
    assert "Signed in as <strong>alice</strong>" in page
    assert 'name="password"' in page
    await api.store.revoke_user("alice")
    page = await (await api.client.get("/auth/login", headers=with_cookie(value))).text()
    assert "Signed in as" not in page


async def test_the_listing_shows_the_client(api: Api) -> None:
    """The session list has the first forwarded address and a printable, shortened user agent."""
    agent = "Mozilla\t" + "x" * 400
    await api.client.post(
        "/auth/login",
        json=GOOD,
        headers={"User-Agent": agent, "X-Forwarded-For": "192.0.2.7, 10.0.0.1"},
    )
    [info] = await api.store.sessions_of("alice")
    assert info.address == "192.0.2.7"
    assert info.user_agent.startswith("Mozilla?xxx")
    assert len(info.user_agent) == 256
    assert info.created == START


async def test_a_token_login_ignores_old_credentials(api: Api) -> None:
    """A JSON login considers only its body and ignores any credentials in the headers."""
    answer = await api.client.post("/auth/login", json=GOOD, headers=bearer("rubbish"))
    assert answer.status == 200


class EndingStore(LocalStore):
    """A store in which each login is ended while it is being written, as by a logout everywhere."""

    async def write(self, grant: Grant) -> bool:
        """Write the login, end it, and say so."""
        await super().write(grant)
        await self.revoke_session(grant.session.sid)
        return False


async def test_a_login_that_is_ended_meanwhile(start: Starter, clock: Clock) -> None:
    """The client gets no credentials, and is told the truth: not that the store is away."""
    api = await start(EndingStore(clock))
    answer = await api.client.post("/auth/login", json=GOOD)
    assert answer.status == 409
    assert (await problem(answer))[
        "detail"
    ] == "This login was ended before it was complete. Sign in again."
    answer = await api.client.post("/auth/login", data=GOOD, headers=BROWSER, allow_redirects=False)
    assert (answer.status, answer.cookies) == (409, {})
    assert 'href="/auth/login"' in await answer.text()
    for method in ("password", "form"):
        assert api.logins(method, "ended") == 1
        assert api.logins(method, "unavailable") == 0
