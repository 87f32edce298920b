"""The refresh endpoint: one new pair for concurrent requests, theft detection, a maximum age."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from sidecar.api.grants import ClientInfo, Login, issue_pair
from sidecar.api.refresh_policy import RefreshPolicy
from sidecar.api.users import Users
from sidecar.auth.session import Grant, SessionKey, refresh_id
from sidecar.errors import StoreUnavailable
from sidecar.sessions.memory.local import LocalStore
from tests.api.control_plane import bearer, problem, users_of, with_cookie

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import ClientResponse

    from sidecar.auth.session import RefreshRecord
    from tests.api.control_plane import Api, Clock, Starter


async def refused(answer: ClientResponse) -> bool:
    """Whether the response is the 401 that every refused refresh token gets."""
    document = await problem(answer)
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="sidecar"'
    assert document["detail"] == "The refresh token is not valid."
    return answer.status == 401 and document["error"] == "invalid_grant"


async def test_rotation(api: Api, clock: Clock) -> None:
    """A refresh returns a new pair for the same session; the old access token ends a bit later."""
    old = await api.login()
    sid = (await (await api.user_of(old["access_token"])).json())["sid"]
    clock.now += 60
    answer = await api.refresh(old["refresh_token"])
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    new = await answer.json()
    assert (new["token_type"], new["expires_in"]) == ("Bearer", 900)
    assert new["access_token"] != old["access_token"]
    assert new["refresh_token"] != old["refresh_token"]
    assert await api.is_live(old["access_token"])
    clock.now += 10
    assert not await api.is_live(old["access_token"])
    user = await (await api.user_of(new["access_token"])).json()
    assert (user["sub"], user["sid"]) == ("alice", sid)
    assert len(await api.store.sessions_of("alice")) == 1
    assert api.logins("refresh", "success") == 1


@pytest.mark.parametrize(
    ("grace", "age", "left"),
    [
        pytest.param(0.0, 0.0, 0.0, id="at-once"),
        pytest.param(10.0, 0.0, 10.0, id="10-s"),
        pytest.param(10.0, 897.0, 3.0, id="no-longer-than-it-lives"),
    ],
)
async def test_access_grace(api: Api, clock: Clock, grace: float, age: float, left: float) -> None:
    """After a refresh, the access token of before counts for the grace, in its own lifetime."""
    api.change(refreshing=RefreshPolicy(access_grace=grace))
    old = await api.login()
    clock.now += age
    new = await (await api.refresh(old["refresh_token"])).json()
    for passed, live in ((left - 0.5, True), (0.5, False)):
        clock.now += max(passed, 0)
        assert await api.is_live(old["access_token"]) is (live and left > 0)
        assert await api.is_live(new["access_token"])


@pytest.mark.parametrize("shown", ["old", "new"])
async def test_a_logout_in_the_access_grace(api: Api, shown: str) -> None:
    """Either access token of a login ends both, and its refresh token."""
    old = await api.login()
    new = await (await api.refresh(old["refresh_token"])).json()
    token = {"old": old, "new": new}[shown]["access_token"]
    header = {"Authorization": f"Bearer {token}"}
    assert (await api.client.post("/auth/logout", headers=header)).status == 204
    assert not await api.is_live(old["access_token"])
    assert not await api.is_live(new["access_token"])
    assert (await api.refresh(new["refresh_token"])).status == 401


async def test_a_theft_in_the_access_grace(api: Api, clock: Clock) -> None:
    """Reuse of the refresh token ends the access tokens of before and after it."""
    api.change(refreshing=RefreshPolicy(grace=1.0, access_grace=60.0))
    old = await api.login()
    new = await (await api.refresh(old["refresh_token"])).json()
    clock.now += 2
    assert await api.is_live(old["access_token"])
    assert (await api.refresh(old["refresh_token"])).status == 401
    assert not await api.is_live(old["access_token"])
    assert not await api.is_live(new["access_token"])


async def test_racers_get_one_pair(api: Api) -> None:
    """Concurrent refreshes with the same token all succeed and get the same pair."""
    old = await api.login()
    answers = await asyncio.gather(*(api.refresh(old["refresh_token"]) for _ in range(5)))
    pairs = [await answer.json() for answer in answers]
    assert [answer.status for answer in answers] == [200] * 5
    assert all(pair == pairs[0] for pair in pairs)
    assert await api.is_live(pairs[0]["access_token"])
    assert api.logins("refresh", "success") == 1
    assert api.logins("refresh", "repeated") == 4


async def test_racers_on_a_slow_store(start: Starter, clock: Clock) -> None:
    """Concurrent refreshes get the same pair even if all read the record before the first claim."""
    store = SlowStore(clock)
    api = await start(store)
    old = await api.login()
    answers = await asyncio.gather(*(api.refresh(old["refresh_token"]) for _ in range(3)))
    pairs = [await answer.json() for answer in answers]
    assert all(pair == pairs[0] for pair in pairs)
    assert await api.is_live(pairs[0]["access_token"])
    assert api.logins("refresh", "success") == 1


class SlowStore(LocalStore):
    """A local store that lets other tasks run before each step."""

    async def get_refresh(self, refresh_id: str) -> RefreshRecord | None:
        """Read the record, then let all other tasks read it."""
        record = await super().get_refresh(refresh_id)
        for _ in range(20):
            await asyncio.sleep(0)
        return record

    async def write(self, grant: Grant) -> bool:
        """Let all other tasks claim the record, then write."""
        for _ in range(20):
            await asyncio.sleep(0)
        return await super().write(grant)


async def test_a_repeat_within_the_grace(api: Api, clock: Clock) -> None:
    """A repeated refresh within REFRESH_GRACE gets the same pair, with the remaining lifetime."""
    old = await api.login()
    first = await (await api.refresh(old["refresh_token"])).json()
    clock.now += 10
    again = await (await api.refresh(old["refresh_token"])).json()
    assert again["access_token"] == first["access_token"]
    assert again["refresh_token"] == first["refresh_token"]
    assert again["expires_in"] == 890


@pytest.mark.parametrize(
    ("grace", "later"),
    [pytest.param(10.0, 10.5, id="after-the-grace"), pytest.param(0.0, 0.0, id="no-grace")],
)
async def test_theft(
    start: Starter,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    grace: float,
    later: float,
) -> None:
    """A used token presented after the grace ends the login for every holder, with one warning."""
    api = await start()
    api.change(refreshing=RefreshPolicy(grace=grace))
    old = await api.login()
    new = await (await api.refresh(old["refresh_token"])).json()
    clock.now += later
    assert await refused(await api.refresh(old["refresh_token"]))
    assert not await api.is_live(new["access_token"])
    assert await refused(await api.refresh(new["refresh_token"]))
    assert await api.store.sessions_of("alice") == []
    assert api.logins("refresh", "reused") == 1
    [record] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "used refresh token" in record.getMessage()


async def test_a_used_token_when_the_clock_was_set_back(api: Api, clock: Clock) -> None:
    """If the clock was set back by more than the grace, a used token counts as stolen."""
    old = await api.login()
    new = await (await api.refresh(old["refresh_token"])).json()
    clock.now -= 10
    assert (await (await api.refresh(old["refresh_token"])).json())["access_token"] == (
        new["access_token"]
    )
    clock.now -= 3590
    assert await refused(await api.refresh(old["refresh_token"]))
    assert not await api.is_live(new["access_token"])
    assert api.logins("refresh", "reused") == 1


@pytest.mark.parametrize("step", [pytest.param(3600, id="on"), pytest.param(-3600, id="back")])
async def test_a_login_goes_on_when_the_clock_is_set(api: Api, clock: Clock, step: int) -> None:
    """A login survives an hour's clock change in either direction and the correction of it."""
    first = await api.login()
    cookie = with_cookie(await api.cookie())
    clock.now += step
    assert await api.is_live(first["access_token"]) is (step < 0)
    second = await (await api.refresh(first["refresh_token"])).json()
    assert second["expires_in"] == 900
    assert await api.is_live(second["access_token"])
    assert (await api.client.get("/auth/userinfo", headers=cookie)).status == 200
    clock.now -= step
    assert await api.is_live(second["access_token"]) is (step > 0)
    assert (await api.client.get("/auth/userinfo", headers=cookie)).status == 200
    third = await api.rotate(second["refresh_token"])
    assert await api.is_live(third["access_token"])
    assert len(await api.store.sessions_of("alice")) == 2


async def test_theft_leaves_other_logins_alone(api: Api, clock: Clock) -> None:
    """Theft of a refresh token ends its own login and no other login of the user."""
    stolen, other = await api.login(), await api.login()
    await api.refresh(stolen["refresh_token"])
    clock.now += 60
    assert await refused(await api.refresh(stolen["refresh_token"]))
    assert await api.is_live(other["access_token"])


async def test_a_repeat_after_the_next_refresh(api: Api, clock: Clock) -> None:
    """A repeat within the grace does not make a pair live that a later refresh has replaced."""
    api.change(refreshing=RefreshPolicy(access_grace=0.0))
    first = await api.login()
    second = await (await api.refresh(first["refresh_token"])).json()
    third = await api.rotate(second["refresh_token"])
    clock.now += 5
    again = await (await api.refresh(first["refresh_token"])).json()
    assert again["refresh_token"] == second["refresh_token"]
    assert not await api.is_live(second["access_token"])
    assert await api.is_live(third["access_token"])


async def test_a_crash_between_claim_and_write_heals(start: Starter, clock: Clock) -> None:
    """If the store fails after the claim, the client's retry within the grace succeeds."""
    store = FailingStore(clock)
    api = await start(store)
    api.change(refreshing=RefreshPolicy(access_grace=0.0))
    old = await api.login()
    store.failing = True
    answer = await api.refresh(old["refresh_token"])
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert "store" in (await problem(answer))["detail"]
    store.failing = False
    new = await (await api.refresh(old["refresh_token"])).json()
    assert await api.is_live(new["access_token"])
    assert not await api.is_live(old["access_token"])
    assert api.logins("refresh", "unavailable") == 1


class FailingStore(LocalStore):
    """A local store whose writes fail while `failing` is set."""

    failing = False

    async def write(self, grant: Grant) -> bool:
        """Write the grant, or raise StoreUnavailable while `failing` is set."""
        if self.failing:
            raise StoreUnavailable("told to")
        return await super().write(grant)


async def test_a_login_cannot_be_written_either(start: Starter, clock: Clock) -> None:
    """If the store fails, a login gets 503 and no tokens."""
    store = FailingStore(clock)
    store.failing = True
    api = await start(store)
    credentials = {"username": "alice", "password": "pw-alice"}
    answer = await api.client.post("/auth/login", json=credentials)
    assert answer.status == 503
    assert "access_token" not in await answer.text()
    assert api.logins("password", "unavailable") == 1
    assert api.logins("password", "success") == 0


async def test_logout_wins_over_a_refresh_under_way(start: Starter, clock: Clock) -> None:
    """If the login ends between claim and write, the refresh is refused and issues no pair."""
    store = RacingStore(clock)
    api = await start(store)
    old = await api.login()
    store.ends_before_writing = True
    assert await refused(await api.refresh(old["refresh_token"]))
    store.ends_before_writing = False
    assert await api.store.sessions_of("alice") == []
    assert await refused(await api.refresh(old["refresh_token"]))
    assert api.logins("refresh", "ended") == 1


class RacingStore(LocalStore):
    """A local store in which a logout can happen just before a write."""

    ends_before_writing = False
    revocable: RefreshRecord | None = None

    async def claim_refresh(self, refresh_id: str, used: RefreshRecord) -> RefreshRecord | None:
        """Claim the record and remember it."""
        self.revocable = used
        return await super().claim_refresh(refresh_id, used)

    async def write(self, grant: Grant) -> bool:
        """End the session if `ends_before_writing` is set, then write the grant."""
        if self.ends_before_writing:
            await self.revoke_session(grant.session.sid)
        return await super().write(grant)


async def test_logout_wins_over_a_repeat(start: Starter, clock: Clock) -> None:
    """A repeat that would complete an interrupted refresh is refused if the login has ended."""
    store = RacingStore(clock)
    api = await start(store)
    old = await api.login()
    store.ends_before_writing = True
    await api.refresh(old["refresh_token"])
    used = await store.get_refresh(refresh_id(old["refresh_token"].encode()))
    assert used is None  # this store deletes the record; others keep it
    assert store.revocable is not None
    store.put_refresh(refresh_id(old["refresh_token"].encode()), store.revocable)
    store.ends_before_writing = False
    assert await refused(await api.refresh(old["refresh_token"]))
    assert api.logins("refresh", "ended") == 2


async def test_a_repeat_after_logout(api: Api) -> None:
    """After a logout, a used token is refused even within the grace."""
    old = await api.login()
    new = await (await api.refresh(old["refresh_token"])).json()
    await api.client.post("/auth/logout", headers=bearer(new["access_token"]))
    assert await refused(await api.refresh(old["refresh_token"]))
    assert await refused(await api.refresh(new["refresh_token"]))
    assert not await api.is_live(new["access_token"])
    assert await api.store.sessions_of("alice") == []


async def test_age(api: Api, clock: Clock) -> None:
    """A login cannot be refreshed beyond its maximum age, and no token outlives that age."""
    start = clock.now
    tokens = await api.login()
    age = api.current.issuer.max_age
    while clock.now < start + age - 6 * 86400:
        clock.now += 6 * 86400
        tokens = await (await api.refresh(tokens["refresh_token"])).json()
    clock.now = start + age - 60
    tokens = await (await api.refresh(tokens["refresh_token"])).json()
    assert tokens["expires_in"] == 60
    clock.now = start + age + 1
    assert await refused(await api.refresh(tokens["refresh_token"]))
    assert not await api.is_live(tokens["access_token"])


async def test_a_lowered_age_ends_older_logins(api: Api, clock: Clock) -> None:
    """A login older than a newly lowered maximum age ends at its next refresh."""
    tokens = await api.login()
    clock.now += 3600
    api.current.issuer.max_age = 1800.0
    assert await refused(await api.refresh(tokens["refresh_token"]))
    assert await api.store.sessions_of("alice") == []
    assert api.logins("refresh", "too_old") == 1


@pytest.mark.parametrize(
    "users",
    [pytest.param(users_of("alice"), id="disabled"), pytest.param(Users(), id="removed")],
)
async def test_a_user_who_is_gone(api: Api, users: Users) -> None:
    """The login of a user who was disabled or removed ends at its next refresh."""
    tokens = await api.login()
    api.change(users=users)
    assert await refused(await api.refresh(tokens["refresh_token"]))
    assert not await api.is_live(tokens["access_token"])
    assert api.logins("refresh", "user_gone") == 1


async def test_a_repeat_by_a_user_who_is_gone(api: Api) -> None:
    """A used token buys nothing within its grace period either, once its user is gone."""
    tokens = await api.login()
    assert (await api.refresh(tokens["refresh_token"])).status == 200
    api.change(users=Users())
    assert await refused(await api.refresh(tokens["refresh_token"]))
    assert await api.store.sessions_of("alice") == []
    assert api.logins("refresh", "user_gone") == 1


async def test_without_a_users_file(api: Api) -> None:
    """Where no users file is configured, logins from elsewhere continue with their claims."""
    tokens = await api.login()
    api.change(users=Users(configured=False))
    tokens = await (await api.refresh(tokens["refresh_token"])).json()
    user = await (await api.user_of(tokens["access_token"])).json()
    assert (user["sub"], user["roles"]) == ("alice", ["user"])


async def test_roles_are_read_anew(api: Api) -> None:
    """A refreshed token has the roles that are in the users file at that time."""
    tokens = await api.login()
    api.change(users=users_of(roles='["user", "auditor"]'))
    tokens = await (await api.refresh(tokens["refresh_token"])).json()
    user = await (await api.user_of(tokens["access_token"])).json()
    assert user["roles"] == ["user", "auditor"]


async def _rubbish(api: Api) -> str:
    return "rubbish"


async def _access(api: Api) -> str:
    tokens = await api.login()
    return str(tokens["access_token"])


async def _changed(api: Api) -> str:
    tokens = await api.login()
    head, _, signature = str(tokens["refresh_token"]).rpartition(".")
    return f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


async def _expired(api: Api) -> str:
    tokens = await api.login()
    api.clock.now += 8 * 86400
    return str(tokens["refresh_token"])


async def _logged_out(api: Api) -> str:
    tokens = await api.login()
    await api.store.revoke_user("alice")
    return str(tokens["refresh_token"])


async def _never_given_out(api: Api) -> str:
    return api.current.issuer.refresh("alice", "other-sid", api.clock.now, "jti")


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(_rubbish, id="rubbish"),
        pytest.param(_access, id="access-token"),
        pytest.param(_changed, id="changed-signature"),
        pytest.param(_expired, id="expired"),
        pytest.param(_logged_out, id="logged-out"),
        pytest.param(_never_given_out, id="no-record"),
    ],
)
async def test_other_tokens(api: Api, make: Callable[[Api], Awaitable[str]]) -> None:
    """Every invalid refresh token gets the same 401, whatever is wrong with it."""
    assert await refused(await api.refresh(await make(api)))


async def test_a_swapped_record(api: Api) -> None:
    """A record copied under the id of another token does not refresh that token."""
    mine, other = await api.login(), await api.login("admin")
    record = await api.store.get_refresh(refresh_id(other["refresh_token"].encode()))
    assert record is not None
    assert isinstance(api.store, LocalStore)
    api.store.put_refresh(refresh_id(mine["refresh_token"].encode()), record)
    assert await refused(await api.refresh(mine["refresh_token"]))


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        pytest.param(b"{}", "missing required field `refresh_token`.", id="no-field"),
        pytest.param(b'{"refresh_token":1}', "got `int` - at `$.refresh_token`.", id="wrong-type"),
        pytest.param(b"rubbish", "The body is not valid JSON.", id="not-json"),
    ],
)
async def test_bad_bodies(api: Api, body: bytes, detail: str) -> None:
    """A body without the field gets a 400 that names the expected field."""
    answer = await api.client.post(
        "/auth/refresh", data=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status == 400
    found = (await problem(answer))["detail"]
    assert found.startswith('Expected a JSON object with the text "refresh_token".')
    assert detail in found


async def test_a_damaged_seal(api: Api) -> None:
    """A used record whose sealed pair cannot be opened was used by another client."""
    tokens = await api.login()
    identity = refresh_id(tokens["refresh_token"].encode())
    record = await api.store.get_refresh(identity)
    assert record is not None
    used = replace(record, used_at=api.clock.now, sealed=b"x" * 40)
    await api.store.claim_refresh(identity, used)
    assert await refused(await api.refresh(tokens["refresh_token"]))
    assert api.logins("refresh", "reused") == 1


async def test_a_record_that_vanishes(start: Starter, clock: Clock) -> None:
    """A token whose record is deleted between read and claim is refused like an unknown token."""
    api = await start(VanishingStore(clock))
    tokens = await api.login()
    assert await refused(await api.refresh(tokens["refresh_token"]))
    assert api.logins("refresh", "unknown") == 1


class VanishingStore(LocalStore):
    """A local store whose sessions end just before they are claimed."""

    async def claim_refresh(self, refresh_id: str, used: RefreshRecord) -> RefreshRecord | None:
        """End the session, then try to claim the record."""
        await self.revoke_session(used.sid)
        return await super().claim_refresh(refresh_id, used)


async def test_logins_from_elsewhere_keep_their_claims(api: Api) -> None:
    """A login without a password keeps its claims and is not looked up in the users file."""
    now = api.clock.now
    login = Login(sid="s" * 22, sub="alice", claims={"roles": ["x"]}, created=now, method="oidc")
    pair = issue_pair(
        api.current.issuer, login, ClientInfo("", ""), now, session_key=SessionKey.SHA256
    )
    await api.store.write(pair.grant)
    api.change(users=Users())
    tokens = await (await api.refresh(pair.refresh_token)).json()
    user = await (await api.user_of(tokens["access_token"])).json()
    assert (user["sub"], user["roles"]) == ("alice", ["x"])


async def test_nothing_usable_is_stored(api: Api) -> None:
    """The record of a used token contains neither of the new tokens in plain form."""
    old = await api.login()
    new = await (await api.refresh(old["refresh_token"])).json()
    record = await api.store.get_refresh(refresh_id(old["refresh_token"].encode()))
    assert record is not None
    assert record.used_at is not None
    for token in (new["access_token"], new["refresh_token"]):
        assert token.encode() not in record.sealed
        assert token not in repr(record)
