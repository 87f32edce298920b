"""Logging out: any credential of a login ends all of it, forged requests nothing of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sidecar.auth.session import token_id
from sidecar.errors import StoreUnavailable
from sidecar.sessions.memory.local import LocalStore
from tests.api.control_plane import BROWSER, bearer, problem, with_cookie

if TYPE_CHECKING:
    from tests.api.control_plane import Api, Clock, Starter


async def ended(api: Api, tokens: dict[str, Any]) -> bool:
    """Whether neither token of a login is good for anything."""
    refused = (await api.refresh(tokens["refresh_token"])).status == 401
    return refused and not await api.is_live(tokens["access_token"])


async def test_bearer(api: Api) -> None:
    """An access token ends its login, refresh token included, and no other login."""
    tokens, other = await api.login(), await api.login()
    answer = await api.client.post("/auth/logout", headers=bearer(tokens["access_token"]))
    assert (answer.status, await answer.read()) == (204, b"")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers
    assert await ended(api, tokens)
    assert await api.is_live(other["access_token"])


async def test_refresh_token(api: Api) -> None:
    """A refresh token in the body does it as well."""
    tokens = await api.login()
    answer = await api.client.post("/auth/logout", json={"refresh_token": tokens["refresh_token"]})
    assert answer.status == 204
    assert await ended(api, tokens)


async def test_cookie(api: Api) -> None:
    """A browser's program logs out with its cookie, which is taken back."""
    value = await api.cookie()
    answer = await api.client.post("/auth/logout", headers=with_cookie(value))
    assert answer.status == 204
    cleared = answer.cookies["__Host-session"]
    assert (cleared.value, cleared["max-age"], cleared["path"]) == ("", "0", "/")
    assert cleared["secure"]
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
    """The page's button ends the session, takes the cookie back and leads on."""
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
    """Who is signed out already is not told off for it."""
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
    """Another site's request with the cookie is 403 and ends nothing."""
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
    """Who comes back after lunch and logs out must not leave a good refresh token behind."""
    tokens = await api.login()
    clock.now += 3600
    answer = await api.client.post("/auth/logout", headers=bearer(tokens["access_token"]))
    assert answer.status == 204
    assert await ended(api, tokens)


async def test_a_replaced_token_ends_its_login(api: Api) -> None:
    """The access token from before a refresh belongs to the same login still."""
    old = await api.login()
    new = await (await api.refresh(old["refresh_token"])).json()
    answer = await api.client.post("/auth/logout", headers=bearer(old["access_token"]))
    assert answer.status == 204
    assert await ended(api, new)


async def test_twice_is_harmless(api: Api) -> None:
    """A good token of a login that has ended is 204 as well."""
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
            {**bearer("x"), "Cookie": "__Host-session=x"},
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
    """No credential, or nothing that ever was one, is refused with its challenge."""
    answer = await api.client.post("/auth/logout", headers=headers, json=body)
    assert answer.status == status
    assert answer.headers["WWW-Authenticate"] == challenge
    assert "Set-Cookie" not in answer.headers
    await problem(answer)


async def test_one_good_credential_is_enough(api: Api) -> None:
    """A stale Authorization header does not keep a good refresh token from logging out."""
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
    """`?all=true` ends every login of this user, however it began, and nobody else's."""
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
    """A token that has expired or was logged out cannot end the user's other logins."""
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
    """A misspelt `all` is an error, not a logout of something else."""
    tokens = await api.login()
    answer = await api.client.post("/auth/logout?all=yes", headers=bearer(tokens["access_token"]))
    assert answer.status == 400
    assert '"true" or "false"' in (await problem(answer))["detail"]
    assert await api.is_live(tokens["access_token"])


@pytest.mark.parametrize("path", ["/auth/logout", "/auth/logout?all=true"])
async def test_an_outage_is_told(start: Starter, clock: Clock, path: str) -> None:
    """A logout that the store did not take is 503, never a false 204; the cookie stays."""
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
    """A local store that can be told not to take any revocation."""

    deaf = False

    async def revoke_token(self, token_id: str) -> bool:
        """Unless deaf."""
        if self.deaf:
            raise StoreUnavailable("told to")
        return await super().revoke_token(token_id)

    async def revoke_user(self, sub: str) -> int:
        """Unless deaf."""
        if self.deaf:
            raise StoreUnavailable("told to")
        return await super().revoke_user(sub)


async def test_only_post(api: Api) -> None:
    """A link or an image cannot log anybody out."""
    value = await api.cookie()
    answer = await api.client.get("/auth/logout", headers=with_cookie(value))
    assert answer.status == 405
    assert "POST" in answer.headers["Allow"]
    assert await api.store.get(token_id(value.encode())) is not None
