"""CORS of the control plane: preflights, readable answers, and what a trusted origin may do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from sidecar.auth.cors import CorsPolicy
from tests.api.control_plane import BROWSER, bearer, with_cookie

if TYPE_CHECKING:
    from aiohttp import ClientResponse

    from tests.api.control_plane import Api

APP: Final = "https://spa.example"
OTHER: Final = "https://evil.example"
READABLE: Final = CorsPolicy((APP,), headers=("Authorization", "Content-Type"), max_age=600.0)
TRUSTED: Final = CorsPolicy((APP,), credentials=True)
FORM: Final = {"username": "alice", "password": "pw-alice"}


def asks(method: str, origin: str = APP) -> dict[str, str]:
    """The headers of a preflight."""
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type",
    }


def granted(answer: ClientResponse) -> dict[str, str]:
    """The CORS headers of an answer, without their prefix."""
    prefix = "Access-Control-"
    return {
        name.removeprefix(prefix): value
        for name, value in answer.headers.items()
        if name.startswith(prefix)
    }


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/auth/login", "GET, HEAD, POST"),
        ("/auth/refresh", "POST"),
        ("/auth/logout?all=true", "POST"),
        ("/auth/userinfo", "GET, HEAD"),
        ("/auth/sessions", "GET, HEAD"),
        ("/auth/sessions/abc", "DELETE"),
        ("/.well-known/jwks.json", "GET, HEAD"),
    ],
)
async def test_a_preflight(api: Api, path: str, methods: str) -> None:
    """The preflight of a listed origin gets the methods of its address, and the headers."""
    api.change(cors=READABLE)
    answer = await api.client.options(path, headers=asks("POST"))
    assert (answer.status, await answer.read()) == (204, b"")
    assert granted(answer) == {
        "Allow-Origin": APP,
        "Allow-Methods": methods,
        "Allow-Headers": "Authorization, Content-Type",
        "Max-Age": "600",
        "Expose-Headers": "X-Request-Id, WWW-Authenticate, Retry-After",
    }
    assert answer.headers["Vary"] == "Origin"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    api.change(cors=TRUSTED)
    answer = await api.client.options(path, headers=asks("POST"))
    assert granted(answer)["Allow-Credentials"] == "true"


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(asks("POST", OTHER), id="other-origin"),
        pytest.param(asks("POST", "null"), id="null"),
        pytest.param({"Origin": APP}, id="no-method"),
        pytest.param({"Access-Control-Request-Method": "POST"}, id="no-origin"),
    ],
)
async def test_no_preflight(api: Api, headers: dict[str, str]) -> None:
    """Any other OPTIONS request is refused as before, and permits nothing."""
    api.change(cors=READABLE)
    answer = await api.client.options("/auth/login", headers=headers)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD,POST")
    assert "Allow-Methods" not in granted(answer)
    assert answer.headers["Vary"] == "Origin"
    assert granted(answer).get("Allow-Origin") == (APP if headers.get("Origin") == APP else None)


async def test_a_preflight_of_nothing(api: Api) -> None:
    """An address that does not exist is 404 for its preflight as well, which the page can read."""
    api.change(cors=READABLE)
    answer = await api.client.options("/auth/nothing", headers=asks("GET"))
    assert (answer.status, granted(answer)["Allow-Origin"]) == (404, APP)
    assert "Allow-Methods" not in granted(answer)


async def test_answers_can_be_read(api: Api) -> None:
    """Good and bad answers name a listed origin, and no other."""
    api.change(cors=READABLE)
    tokens = await api.login()
    for origin in (APP, OTHER, "null", APP + "/"):
        headers = {"Origin": origin}
        answers = [
            await api.client.post("/auth/login", json=FORM, headers=headers),
            await api.client.post("/auth/login", json={}, headers=headers),
            await api.client.post("/auth/refresh", json={"refresh_token": "x"}, headers=headers),
            await api.client.get("/auth/userinfo", headers=headers),
            await api.client.get(
                "/auth/userinfo", headers=headers | bearer(tokens["access_token"])
            ),
            await api.client.get("/auth/login", headers=headers),
            await api.client.get("/.well-known/jwks.json", headers=headers),
        ]
        assert [each.status for each in answers] == [200, 400, 401, 401, 200, 200, 404]
        for answer in answers:
            assert granted(answer).get("Allow-Origin") == (APP if origin == APP else None)
            assert "Allow-Credentials" not in granted(answer)
            assert answer.headers["Vary"] == "Origin"


async def test_without_a_policy_nothing_changes(api: Api) -> None:
    """Without a `[cors]` table, no answer has a CORS header or depends on Origin."""
    for answer in (
        await api.client.get("/auth/login", headers={"Origin": APP}),
        await api.client.options("/auth/login", headers=asks("POST")),
    ):
        assert granted(answer) == {}
        assert "Vary" not in answer.headers


@pytest.mark.parametrize(
    ("policy", "origin", "trusted"),
    [
        pytest.param(TRUSTED, APP, True, id="trusted"),
        pytest.param(TRUSTED, OTHER, False, id="other"),
        pytest.param(TRUSTED, "null", False, id="null"),
        pytest.param(READABLE, APP, False, id="without-credentials"),
        pytest.param(CorsPolicy(("*",)), APP, False, id="every-origin"),
        pytest.param(CorsPolicy(), APP, False, id="none"),
    ],
)
@pytest.mark.parametrize("site", ["same-site", "cross-site", ""])
async def test_the_cookie(
    api: Api, policy: CorsPolicy, origin: str, site: str, *, trusted: bool
) -> None:
    """Only a page of a listed origin with credentials logs in and out with the cookie."""
    value = await api.cookie()
    other = await api.cookie()
    (ended,) = [
        each["sid"]
        for each in (
            await (await api.client.get("/auth/sessions", headers=with_cookie(other))).json()
        )["sessions"]
        if each["current"]
    ]
    api.change(cors=policy)
    api.services.gate.cors = policy
    sent = {"Origin": origin} | ({"Sec-Fetch-Site": site} if site else {})
    headers = with_cookie(value, **sent)
    login = await api.client.post(
        "/auth/login", data=FORM, headers={**BROWSER, **sent}, allow_redirects=False
    )
    assert login.status == (303 if trusted else 403)
    end = await api.client.delete(f"/auth/sessions/{ended}", headers=headers)
    assert end.status == (204 if trusted else 403)
    logout = await api.client.post("/auth/logout", headers=headers)
    assert logout.status == (204 if trusted else 403)
    assert ("Set-Cookie" in login.headers) is trusted
    if trusted:
        for answer in (login, end, logout):
            assert granted(answer)["Allow-Origin"] == APP
            assert granted(answer)["Allow-Credentials"] == "true"
    alive = await api.client.get("/auth/userinfo", headers=with_cookie(value))
    assert alive.status == (401 if trusted else 200)
