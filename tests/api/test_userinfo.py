"""User info and the session list: users see and end their own sessions and nobody else's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from yarl import URL

from sidecar.api.listing_queue import LISTING_QUEUE, ListingQueue
from sidecar.api.problems import RETRY_AFTER, Refusal
from sidecar.auth.session import token_id
from sidecar.errors import StoreUnavailable
from sidecar.sessions.listing import PAGE
from sidecar.sessions.memory.local import LocalStore
from tests.api.control_plane import bearer, problem, with_cookie
from tests.peers.patience import until
from tests.sessions.contract import new_login

if TYPE_CHECKING:
    from sidecar.auth.session import Session, SessionInfo
    from sidecar.sessions.listing import Position
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


async def pages(api: Api, token: str) -> list[list[dict[str, Any]]]:
    """Every page of the session list, by the links from one to the next."""
    found, path = [], "/auth/sessions"
    while path:
        answer = await api.client.get(path, headers=bearer(token))
        assert answer.status == 200
        found.append((await answer.json())["sessions"])
        path = str(URL(answer.links["next"]["url"]).relative()) if "next" in answer.links else ""
    return found


async def test_a_long_listing_has_pages(api: Api, clock: Clock) -> None:
    """The Link header leads to the next page. A list of one page has none."""
    token = (await api.login())["access_token"]
    clock.now += 1
    for _ in range(PAGE - 1):
        await api.store.write(new_login(clock.now))
    assert [len(page) for page in await pages(api, token)] == [PAGE]
    clock.now += 1
    for _ in range(PAGE):
        await api.store.write(new_login(clock.now))
    found = await pages(api, token)
    assert [len(page) for page in found] == [PAGE, PAGE]
    assert len({each["sid"] for page in found for each in page}) == 2 * PAGE
    headers = bearer(token) | {"X-Forwarded-Prefix": "/app"}
    answer = await api.client.get("/auth/sessions", headers=headers)
    assert answer.headers["Link"].startswith("</app/auth/sessions?cursor=")
    assert [each["current"] for page in found for each in page].count(True) == 1
    [current] = [each["sid"] for each in found[1] if each["current"]]
    answer = await api.client.delete(f"/auth/sessions/{current}", headers=bearer(token))
    assert answer.status == 204


@pytest.mark.parametrize("cursor", ["x", "~", "nan~x", "inf~x", "1e999~x", "0x10~x"])
async def test_a_cursor_of_somebody_elses(api: Api, cursor: str) -> None:
    """It is a fault of the client."""
    token = (await api.login())["access_token"]
    answer = await api.client.get(f"/auth/sessions?cursor={cursor}", headers=bearer(token))
    assert answer.status == 400
    await problem(answer)


class SlowStore(LocalStore):
    """A store that counts the listings that it reads at the same time."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.going = asyncio.Event()
        self.reading = 0
        self.most = 0
        listing = self.sessions_of

        async def slowly(
            sub: str, after: Position | None = None, limit: int = PAGE
        ) -> list[SessionInfo]:
            self.reading += 1
            self.most = max(self.most, self.reading)
            await self.going.wait()
            self.reading -= 1
            return await listing(sub, after, limit)

        self.sessions_of = slowly


async def test_parallel_listings(start: Starter, clock: Clock) -> None:
    """One is read at a time, some wait, the rest get 503, and other users get theirs."""
    store = SlowStore(clock)
    api = await start(store)
    mine, other = [(await api.login(name))["access_token"] for name in ("alice", "admin")]

    async def ask(token: str) -> tuple[int, str]:
        answer = await api.client.get("/auth/sessions", headers=bearer(token))
        return answer.status, answer.headers.get("Retry-After", "")

    queue = api.client.app[LISTING_QUEUE]
    asked = [asyncio.ensure_future(ask(mine)) for _ in range(40)]
    await until(lambda: sum(each.done() for each in asked) == 8)
    assert repr(queue) == "<ListingQueue 32 of 64>"
    others = asyncio.ensure_future(ask(other))
    await until(lambda: repr(queue) == "<ListingQueue 33 of 64>")
    store.going.set()
    answers = await asyncio.gather(*asked)
    assert answers.count((200, "")) == 32
    assert answers.count((503, RETRY_AFTER)) == 8
    assert await others == (200, "")
    assert store.most == 1
    assert repr(queue) == "<ListingQueue 0 of 64>"


async def test_all_users_together() -> None:
    """However many listings some users ask for, another user has a place left."""
    queue = ListingQueue(waiting=8)

    async def ask(name: str) -> None:
        async with queue.turn(name):
            raise AssertionError("read while another listing was being read")

    async with queue.turn("alice"):
        asked = [asyncio.ensure_future(ask(name)) for name in ("bob", "alice") * 8]
        await asyncio.sleep(0)
        assert repr(queue) == "<ListingQueue 6 of 8>"
        assert sum(isinstance(each.exception(), Refusal) for each in asked if each.done()) == 11
        asked += [asyncio.ensure_future(ask(name)) for name in ("carol", "dave", "erin")]
        await asyncio.sleep(0)
        assert repr(queue) == "<ListingQueue 8 of 8>"
        assert isinstance(asked.pop().exception(), Refusal)
        for each in asked:
            each.cancel()
        await asyncio.wait(asked)
    assert repr(queue) == "<ListingQueue 0 of 8>"


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
