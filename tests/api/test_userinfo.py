"""User info and the session list: users see and end their own sessions and nobody else's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sidecar.auth.session import token_id
from sidecar.errors import StoreUnavailable
from sidecar.sessions.memory.local import LocalStore
from tests.api.control_plane import bearer, problem, with_cookie

if TYPE_CHECKING:
    from sidecar.auth.session import Session
    from tests.api.control_plane import Api, Clock, Starter


async def sessions(api: Api, token: str) -> list[dict[str, Any]]:
    """The session list that the owner of this token gets."""
    answer = await api.client.get("/auth/sessions", headers=bearer(token))
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    found: list[dict[str, Any]] = (await answer.json())["sessions"]
    return found


@pytest.mark.parametrize("by", ["bearer", "cookie"])
async def test_userinfo(api: Api, by: str) -> None:
    """A token and a cookie return the same claims about the user and no claims about the token."""
    if by == "bearer":
        headers = bearer((await api.login("admin"))["access_token"])
    else:
        headers = with_cookie(await api.cookie("admin"))
    answer = await api.client.get("/auth/userinfo", headers=headers)
    assert answer.status == 200
    assert answer.content_type == "application/json"
    [info] = await api.store.sessions_of("admin")
    assert await answer.json() == {
        "sub": "admin",
        "sid": info.sid,
        "roles": ["user", "admin"],
        "scopes": ["read"],
        "email": "admin@example.com",
    }


@pytest.mark.parametrize("path", ["/auth/userinfo", "/auth/sessions"])
async def test_nobody(api: Api, path: str) -> None:
    """Without a live session, both endpoints return 401, and only the metric has the reason."""
    answer = await api.client.get(path)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="sidecar"'
    tokens = await api.login()
    await api.store.revoke_user("alice")
    answer = await api.client.get(path, headers=bearer(tokens["access_token"]))
    assert answer.status == 401
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    assert (await problem(answer))["detail"] == "Valid credentials are required."
    assert api.services.metrics.denied["no_credentials"] == 1
    assert api.services.metrics.denied["session_missing"] == 1


async def test_repeated_authorization(api: Api) -> None:
    """Two Authorization headers get 400, even if the token in them is valid."""
    tokens = await api.login()
    header = f"Bearer {tokens['access_token']}"
    answer = await api.client.get(
        "/auth/userinfo", headers=[("Authorization", header), ("Authorization", header)]
    )
    assert answer.status == 400


async def test_store_away(start: Starter, clock: Clock) -> None:
    """If the store is unavailable, the response is 503 and not 401."""
    api = await start(AwayStore(clock))
    tokens = await api.login()
    answer = await api.user_of(tokens["access_token"])
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) > 0
    await problem(answer)


class AwayStore(LocalStore):
    """A local store that is unavailable for reading sessions."""

    def peek(self, token_id: str) -> Session | None:
        """Return None, because nothing is cached."""
        return None

    def known(self, token_id: str) -> Session | None:
        """Return None, because no session is known locally."""
        return None

    async def get(self, token_id: str) -> Session | None:
        """Raise StoreUnavailable."""
        raise StoreUnavailable("told to")


async def test_listing(api: Api, clock: Clock) -> None:
    """The list has all sessions of the user, marks the current one, and has no other user's."""
    first = await api.login()
    clock.now += 60
    await api.cookie()
    await api.login("admin")
    found = await sessions(api, first["access_token"])
    assert len(found) == 2
    assert [each["current"] for each in found] == [False, True]
    assert set(found[0]) == {
        *("sid", "created", "seen", "expires", "method", "user_agent", "address", "current")
    }
    assert found[1]["created"] == "2023-11-14T22:13:20.000Z"
    assert found[0]["address"] == "192.0.2.7"
    assert found[0]["user_agent"].startswith("Python/")


async def test_end_one(api: Api) -> None:
    """Deleting another session ends it and leaves the caller's session alone."""
    mine, other = await api.login(), await api.login()
    found = await sessions(api, mine["access_token"])
    [sid] = [each["sid"] for each in found if not each["current"]]
    answer = await api.client.delete(f"/auth/sessions/{sid}", headers=bearer(mine["access_token"]))
    assert answer.status == 204
    assert not await api.is_live(other["access_token"])
    assert await api.is_live(mine["access_token"])
    assert len(await sessions(api, mine["access_token"])) == 1


async def test_end_somebody_elses(api: Api) -> None:
    """Another user's session looks like an unknown one and is not ended."""
    mine, other = await api.login(), await api.login("admin")
    [info] = await api.store.sessions_of("admin")
    for sid in (info.sid, "nonsense", "%2e%2e", "a" * 5000):
        answer = await api.client.delete(
            f"/auth/sessions/{sid}", headers=bearer(mine["access_token"])
        )
        assert answer.status == 404
        assert "a" * 50 not in (await problem(answer))["detail"]
    assert await api.is_live(other["access_token"])


async def test_end_ones_own(api: Api) -> None:
    """Deleting the current session clears its cookie."""
    value = await api.cookie()
    [info] = await api.store.sessions_of("alice")
    answer = await api.client.delete(f"/auth/sessions/{info.sid}", headers=with_cookie(value))
    assert answer.status == 204
    assert answer.cookies["__Host-session"].value == ""
    assert await api.store.get(token_id(value.encode())) is None


async def test_end_is_guarded_against_forgery(api: Api) -> None:
    """A request that another site forged with the user's cookie gets 403 and ends nothing."""
    value = await api.cookie()
    [info] = await api.store.sessions_of("alice")
    answer = await api.client.delete(
        f"/auth/sessions/{info.sid}",
        headers=with_cookie(value, Origin="https://evil.example", Accept="*/*"),
    )
    assert answer.status == 403
    await problem(answer)
    assert await api.store.get(token_id(value.encode())) is not None
