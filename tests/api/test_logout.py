"""The logout endpoint: any credential ends its whole login, and forged requests end nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sidecar.auth.session import token_id
from sidecar.errors import StoreUnavailable
from sidecar.sessions.memory.local import LocalStore
from tests.api.control_plane import BROWSER, bearer, problem, with_cookie
from tests.peers.stack import mint

if TYPE_CHECKING:
    from tests.api.control_plane import Api, Clock, Starter


async def ended(api: Api, tokens: dict[str, Any]) -> bool:
    """Whether both the access token and the refresh token are refused."""
    refused = (await api.refresh(tokens["refresh_token"])).status == 401
    return refused and not await api.is_live(tokens["access_token"])


async def test_bearer(api: Api) -> None:
    """An access token ends its own login, including the refresh token, and no other login."""
    tokens, other = await api.login(), await api.login()
    answer = await api.client.post("/auth/logout", headers=bearer(tokens["access_token"]))
    assert (answer.status, await answer.read()) == (204, b"")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers
    assert await ended(api, tokens)
    assert await api.is_live(other["access_token"])


async def test_refresh_token(api: Api) -> None:
    """A refresh token in the body ends its login."""
    tokens = await api.login()
    answer = await api.client.post("/auth/logout", json={"refresh_token": tokens["refresh_token"]})
    assert answer.status == 204
    assert await ended(api, tokens)


async def test_cookie(api: Api) -> None:
    """A request with the session cookie ends the session and clears the cookie."""
    value = await api.cookie()
    answer = await api.client.post("/auth/logout", headers=with_cookie(value))
    assert answer.status == 204
    cleared = answer.cookies["__Host-session"]
    assert (cleared.value, cleared["max-age"], cleared["path"]) == ("", "0", "/")
    assert cleared["secure"]
    assert await api.store.get(token_id(value.encode())) is None


async def test_cookie_beside_a_foreign_token(api: Api) -> None:
    """A bearer token of the application changes neither the logout by cookie nor its protection."""
    value = await api.cookie()
    foreign = bearer(mint(iss="https://app.example"))
    forged = {**with_cookie(value), **foreign, "Origin": "https://evil.example"}
    assert (await api.client.post("/auth/logout", headers=forged)).status == 403
    assert await api.store.get(token_id(value.encode())) is not None
    headers = {**with_cookie(value), **foreign}
    assert (await api.client.post("/auth/logout", headers=headers)).status == 204
    assert await api.store.get(token_id(value.encode())) is None


@pytest.mark.parametrize(
    ("rd", "location"),
    [
        pytest.param("/bye", "/bye", id="allowed"),
        pytest.param("", "/auth/login?signed-out", id="none"),
        pytest.param("https://evil.example/", "/auth/login?signed-out", id="foreign"),
    ],
)
async def test_form(api: Api, rd: str, location: str) -> None:
    """The sign-out form ends the session, clears the cookie and redirects."""
    value = await api.cookie()
    answer = await api.client.post(
        "/auth/logout", data={"rd": rd}, headers=with_cookie(value), allow_redirects=False
    )
    assert (answer.status, answer.headers["Location"]) == (303, location)
    assert answer.cookies["__Host-session"].value == ""
    assert await api.store.get(token_id(value.encode())) is None
    page = await api.client.get("/auth/login?signed-out", headers=BROWSER)
    assert "You are signed out." in await page.text()


async def test_form_without_a_session(api: Api) -> None:
    """The sign-out form gets a redirect and no error if there is no session any more."""
    form = {"rd": ""}
    answer = await api.client.post(
        "/auth/logout", data=form, headers=BROWSER, allow_redirects=False
    )
    assert answer.status == 303
    answer = await api.client.post(
        "/auth/logout", data=form, headers=with_cookie("A" * 43), allow_redirects=False
    )
    assert answer.status == 303
    assert answer.cookies["__Host-session"].value == ""


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Origin": "https://evil.example"}, id="foreign-origin"),
        pytest.param({"Sec-Fetch-Site": "cross-site"}, id="cross-site"),
        pytest.param({"Origin": "null"}, id="null-origin"),
    ],
)
async def test_forged(api: Api, headers: dict[str, str]) -> None:
    """A request that another site forged with the user's cookie gets 403 and ends nothing."""
    value = await api.cookie()
    answer = await api.client.post(
        "/auth/logout", headers=with_cookie(value, **headers, Accept="*/*")
    )
    assert answer.status == 403
    assert "another site" in (await problem(answer))["detail"]
    assert "Set-Cookie" not in answer.headers
    assert await api.store.get(token_id(value.encode())) is not None
    assert api.services.metrics.denied["cross_origin"] == 1


async def test_an_expired_token_ends_its_login(api: Api, clock: Clock) -> None:
    """An expired access token still ends its login, so no usable refresh token remains."""
    tokens = await api.login()
    clock.now += 3600
    answer = await api.client.post("/auth/logout", headers=bearer(tokens["access_token"]))
    assert answer.status == 204
    assert await ended(api, tokens)


async def test_a_replaced_token_ends_its_login(api: Api) -> None:
    """An access token that a refresh has replaced still ends its login."""
    old = await api.login()
    new = await (await api.refresh(old["refresh_token"])).json()
    answer = await api.client.post("/auth/logout", headers=bearer(old["access_token"]))
    assert answer.status == 204
    assert await ended(api, new)


async def test_twice_is_harmless(api: Api) -> None:
    """A second logout with a valid token of a login that has ended gets 204 again."""
    tokens = await api.login()
    for _ in range(2):
        answer = await api.client.post("/auth/logout", headers=bearer(tokens["access_token"]))
        assert answer.status == 204


@pytest.mark.parametrize(
    ("headers", "body", "status", "challenge"),
    [
        pytest.param({}, None, 401, 'Bearer realm="sidecar"', id="nothing"),
        pytest.param({}, {}, 401, 'Bearer realm="sidecar"', id="empty-body"),
        pytest.param(
            bearer("rubbish"),
            None,
            401,
            'Bearer realm="sidecar", error="invalid_token"',
            id="rubbish-bearer",
        ),
        pytest.param(
            {},
            {"refresh_token": "rubbish"},
            401,
            'Bearer realm="sidecar", error="invalid_token"',
            id="rubbish-refresh",
        ),
        pytest.param(
            {"Cookie": "__Host-session=a.b.c"},
            None,
            401,
            'Bearer realm="sidecar", error="invalid_token"',
            id="rubbish-cookie",
        ),
        pytest.param(
            {**bearer(mint()), "Cookie": "__Host-session=x"},
            None,
            400,
            'Bearer realm="sidecar", error="invalid_request"',
            id="two-credentials",
        ),
    ],
)
async def test_rubbish(
    api: Api,
    *,
    headers: dict[str, str],
    body: dict[str, str] | None,
    status: int,
    challenge: str,
) -> None:
    """A missing or invalid credential is refused with the matching WWW-Authenticate challenge."""
    answer = await api.client.post("/auth/logout", headers=headers, json=body)
    assert answer.status == status
    assert answer.headers["WWW-Authenticate"] == challenge
    assert "Set-Cookie" not in answer.headers
    await problem(answer)


async def test_one_good_credential_is_enough(api: Api) -> None:
    """A valid refresh token logs out even if the Authorization header is invalid."""
    tokens = await api.login()
    answer = await api.client.post(
        "/auth/logout",
        headers=bearer("rubbish"),
        json={"refresh_token": tokens["refresh_token"]},
    )
    assert answer.status == 204
    assert await ended(api, tokens)


@pytest.mark.parametrize("by", ["bearer", "cookie", "refresh_token"])
async def test_everywhere(api: Api, by: str) -> None:
    """`?all=true` ends all logins of this user, of every kind, and no other user's."""
    tokens, value, other = await api.login(), await api.cookie(), await api.login("admin")
    headers: dict[str, str] = {}
    body = None
    if by == "bearer":
        headers = bearer(tokens["access_token"])
    elif by == "cookie":
        headers = with_cookie(value)
    else:
        body = {"refresh_token": tokens["refresh_token"]}
    answer = await api.client.post("/auth/logout?all=true", headers=headers, json=body)
    assert answer.status == 204
    assert await ended(api, tokens)
    assert await api.store.get(token_id(value.encode())) is None
    assert await api.is_live(other["access_token"])


async def test_everywhere_takes_a_live_credential(api: Api, clock: Clock) -> None:
    """`?all=true` with an expired, used or logged-out token gets 401 and ends no other login."""
    tokens = await api.login()
    await api.client.post("/auth/logout", headers=bearer(tokens["access_token"]))
    other = await api.login()
    old = await api.login()
    clock.now += 3600
    fresh = await (await api.refresh(other["refresh_token"])).json()
    for headers, body in (
        (bearer(tokens["access_token"]), None),
        (bearer(old["access_token"]), None),
        ({}, {"refresh_token": other["refresh_token"]}),
        ({}, {"refresh_token": tokens["refresh_token"]}),
    ):
        answer = await api.client.post("/auth/logout?all=true", headers=headers, json=body)
        assert answer.status == 401
        await problem(answer)
    assert await api.is_live(fresh["access_token"])


async def test_a_bad_flag(api: Api) -> None:
    """An invalid value of `all` gets 400, and nothing is logged out."""
    tokens = await api.login()
    answer = await api.client.post("/auth/logout?all=yes", headers=bearer(tokens["access_token"]))
    assert answer.status == 400
    assert '"true" or "false"' in (await problem(answer))["detail"]
    assert await api.is_live(tokens["access_token"])


@pytest.mark.parametrize("path", ["/auth/logout", "/auth/logout?all=true"])
async def test_an_outage_is_told(start: Starter, clock: Clock, path: str) -> None:
    """If the store cannot revoke the session, the logout gets 503 and the cookie is kept."""
    store = DeafStore(clock)
    api = await start(store)
    value = await api.cookie()
    store.deaf = True
    answer = await api.client.post(path, headers=with_cookie(value, Accept="*/*"))
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert "Set-Cookie" not in answer.headers
    await problem(answer)


class DeafStore(LocalStore):
    """A local store that refuses revocations while `deaf` is set."""

    deaf = False

    async def revoke_token(self, token_id: str) -> bool:
        """Revoke the token, or raise StoreUnavailable while `deaf` is set."""
        if self.deaf:
            raise StoreUnavailable("told to")
        return await super().revoke_token(token_id)

    async def revoke_user(self, sub: str) -> int:
        """Revoke the user's sessions, or raise StoreUnavailable while `deaf` is set."""
        if self.deaf:
            raise StoreUnavailable("told to")
        return await super().revoke_user(sub)


async def test_only_post(api: Api) -> None:
    """A GET request, as made by a link or an image, does not log the user out."""
    value = await api.cookie()
    answer = await api.client.get("/auth/logout", headers=with_cookie(value))
    assert answer.status == 405
    assert "POST" in answer.headers["Allow"]
    assert await api.store.get(token_id(value.encode())) is not None
