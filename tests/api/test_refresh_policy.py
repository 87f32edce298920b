"""The rules of refreshing: the time between refreshes, and who may repeat one, and how often."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.api.grants import ClientInfo
from sidecar.api.refresh_policy import GraceClient, RefreshPolicy
from sidecar.auth.session import RefreshRecord, refresh_id
from sidecar.sessions.memory.local import LocalStore
from tests.api.control_plane import bearer, problem
from tests.api.test_refresh import refused

if TYPE_CHECKING:
    from tests.api.control_plane import Api, Clock, Starter

HOME: Final = {"X-Forwarded-For": "192.0.2.7", "User-Agent": "browser"}
OTHER_ADDRESS: Final = HOME | {"X-Forwarded-For": "198.51.100.1"}
OTHER_AGENT: Final = HOME | {"User-Agent": "curl"}


async def used_token(api: Api) -> tuple[str, dict[str, Any]]:
    """A refresh token that the client at home has used, and the pair that it got."""
    old = (await api.login())["refresh_token"]
    answer = await api.refresh(old, **HOME)
    assert answer.status == 200
    return old, await answer.json()


async def test_a_second_refresh_must_wait(api: Api, clock: Clock) -> None:
    """It gets 429 with the time to wait, claims nothing, and works after that time."""
    first = await api.login()
    second = await (await api.refresh(first["refresh_token"])).json()
    clock.now += 0.25
    answer = await api.refresh(second["refresh_token"])
    document = await problem(answer)
    assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
    assert "still valid" in document["detail"]
    assert api.logins("refresh", "too_soon") == 1
    record = await api.store.get_refresh(refresh_id(second["refresh_token"].encode()))
    assert record is not None
    assert record.used_at is None
    assert await api.is_live(second["access_token"])
    clock.now += 0.75
    assert (await api.refresh(second["refresh_token"])).status == 200


async def test_the_wait_is_that_of_the_setting(api: Api, clock: Clock) -> None:
    """Retry-After is in whole seconds, rounded up; 0 s switches the limit off."""
    api.change(refreshing=RefreshPolicy(min_interval=30.0))
    tokens = await (await api.refresh((await api.login())["refresh_token"])).json()
    clock.now += 9.5
    answer = await api.refresh(tokens["refresh_token"])
    assert (answer.status, answer.headers["Retry-After"]) == (429, "21")
    api.change(refreshing=RefreshPolicy(min_interval=0.0))
    for _ in range(5):
        answer = await api.refresh(tokens["refresh_token"])
        assert answer.status == 200
        tokens = await answer.json()


def record(generation: int, issued: float) -> RefreshRecord:
    """A record that was issued then."""
    return RefreshRecord(
        sid="s",
        sub="alice",
        created=0.0,
        exp=9e9,
        token_id="t",
        claims={},
        generation=generation,
        issued=issued,
    )


@pytest.mark.parametrize(
    ("generation", "age", "wait"),
    [
        pytest.param(0, 0.0, 0.0, id="first-refresh"),
        pytest.param(1, 0.0, 2.0, id="at-once"),
        pytest.param(1, 0.5, 1.5, id="soon"),
        pytest.param(1, 2.0, 0.0, id="in-time"),
        pytest.param(1, -0.5, 2.0, id="clock-of-another-pod-is-ahead"),
        pytest.param(1, -3600.0, 0.0, id="clock-was-set-back"),
    ],
)
def test_wait(generation: int, age: float, wait: float) -> None:
    """No wait is longer than the interval, whatever the clocks say."""
    policy = RefreshPolicy(min_interval=2.0)
    assert policy.wait(record(generation, 1000.0), 1000.0 + age) == wait


@pytest.mark.parametrize(
    ("client", "headers", "repeated"),
    [
        pytest.param("address+agent", HOME, True, id="same"),
        pytest.param("address+agent", OTHER_ADDRESS, False, id="other-address"),
        pytest.param("address+agent", OTHER_AGENT, False, id="other-agent"),
        pytest.param("address", OTHER_AGENT, True, id="by-address-other-agent"),
        pytest.param("address", OTHER_ADDRESS, False, id="by-address-other-address"),
        pytest.param("agent", OTHER_ADDRESS, True, id="by-agent-other-address"),
        pytest.param("agent", OTHER_AGENT, False, id="by-agent-other-agent"),
        pytest.param("any", OTHER_ADDRESS | OTHER_AGENT, True, id="anyone"),
    ],
)
async def test_a_repeat_by_another_client(
    api: Api,
    caplog: pytest.LogCaptureFixture,
    client: str,
    headers: dict[str, str],
    repeated: bool,  # noqa: FBT001 (a parameter)
) -> None:
    """Within the grace, only the client that used the token gets its pair; others end the login."""
    caplog.set_level("INFO")
    api.change(refreshing=RefreshPolicy(client=GraceClient(client)))
    old, new = await used_token(api)
    answer = await api.refresh(old, **headers)
    logged = vars(caplog.records[-1])
    assert logged["client"] == headers["X-Forwarded-For"]
    if repeated:
        assert (await answer.json())["refresh_token"] == new["refresh_token"]
    else:
        assert await refused(answer)
        assert logged["shown"] == "by another client"
    assert await api.is_live(new["access_token"]) is repeated
    assert api.logins("refresh", "repeated") == repeated
    assert api.logins("refresh", "reused") == (not repeated)


async def test_repeats_are_bounded(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """One repeat more than REFRESH_GRACE_REPEATS ends the login."""
    api.change(refreshing=RefreshPolicy(repeats=3))
    old, new = await used_token(api)
    for _ in range(3):
        assert (await api.refresh(old, **HOME)).status == 200
    assert await api.is_live(new["access_token"])
    assert await refused(await api.refresh(old, **HOME))
    assert not await api.is_live(new["access_token"])
    assert (api.logins("refresh", "repeated"), api.logins("refresh", "reused")) == (3, 1)
    assert vars(caplog.records[-1])["shown"] == "too many times"


async def test_a_used_token_after_its_record_is_gone(
    api: Api, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The generation of its login shows that it was used, however much later. The login ends."""
    old = await api.login()
    tokens = await api.rotate(old["refresh_token"])
    clock.now += 6 * 86400
    tokens = await api.rotate(tokens["refresh_token"])
    assert await api.store.get_refresh(refresh_id(old["refresh_token"].encode())) is None
    clock.now += 3600
    assert await refused(await api.refresh(old["refresh_token"]))
    assert api.logins("refresh", "reused") == 1
    assert vars(caplog.records[-1])["shown"] == "after it was forgotten"
    assert await api.store.sessions_of("alice") == []
    assert await refused(await api.refresh(tokens["refresh_token"]))
    assert api.logins("refresh", "unknown") == 1


async def test_a_token_ahead_of_its_login(api: Api) -> None:
    """A failover of Redis can lose the last refreshes. Such a token is unknown; nothing ends."""
    tokens = await api.login()
    sid = (await (await api.user_of(tokens["access_token"])).json())["sid"]
    for generation in (0, 1, 7):  # 0: the record of the live token was lost
        ahead = api.current.issuer.refresh(
            "alice", sid, api.clock.now, f"jti-{generation}", generation=generation
        )
        assert await refused(await api.refresh(ahead))
    assert api.logins("refresh", "unknown") == 3
    assert await api.is_live(tokens["access_token"])
    assert (await api.refresh(tokens["refresh_token"])).status == 200


async def test_a_record_that_comes_back_is_not_used_again(api: Api, clock: Clock) -> None:
    """If a used token's record is live again, its use is recognised by the generation."""
    old = (await api.login())["refresh_token"]
    live = await api.store.get_refresh(refresh_id(old.encode()))
    assert live is not None
    tokens = await api.rotate(old)
    tokens = await api.rotate(tokens["refresh_token"])
    clock.now += 60
    assert isinstance(api.store, LocalStore)
    api.store.put_refresh(refresh_id(old.encode()), live)  # as after a restore of Redis
    assert await refused(await api.refresh(old))
    assert api.logins("refresh", "reused") == 1
    assert not await api.is_live(tokens["access_token"])


class HeldStore(LocalStore):
    """A local store whose writes of refreshes wait until they are released."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.held = False
        self.waiting = asyncio.Event()
        self.released = asyncio.Event()

    async def write(self, grant: Any) -> bool:
        """Write a grant; if `held`, the first one waits."""
        if self.held:
            self.held = False
            self.waiting.set()
            await self.released.wait()
        return await super().write(grant)


async def test_a_slow_write_loses_no_token(start: Starter, clock: Clock) -> None:
    """A client that repeats while its first request is still writing keeps its login.

    The late write takes no effect, because the login has a later pair by then.
    """
    store = HeldStore(clock)
    api = await start(store)
    api.change(refreshing=RefreshPolicy(access_grace=0.0))
    old = (await api.login())["refresh_token"]
    store.held = True
    slow = asyncio.create_task(api.refresh(old, **HOME))
    await store.waiting.wait()
    second = await (await api.refresh(old, **HOME)).json()
    clock.now += 1
    third = await (await api.refresh(second["refresh_token"], **HOME)).json()
    store.released.set()
    assert (await (await slow).json())["refresh_token"] == second["refresh_token"]
    assert not await api.is_live(second["access_token"])
    assert await api.is_live(third["access_token"])
    assert api.logins("refresh", "reused") == 0
    clock.now += 1
    assert (await api.refresh(third["refresh_token"], **HOME)).status == 200


async def test_refreshing_leaves_constant_state(api: Api) -> None:
    """However long a login is refreshed, it has one live record and two used ones."""
    tokens = await api.login()
    sizes = set()
    for number in range(50):
        tokens = await api.rotate(tokens["refresh_token"])
        if number > 1:
            sizes.add(api.store.describe()["refresh_records"])
    assert sizes == {3}
    api.clock.now += 60
    await api.rotate(tokens["refresh_token"])
    assert api.store.describe()["refresh_records"] == 2
    await api.client.post("/auth/logout", headers=bearer(tokens["access_token"]))


def test_an_ipv6_client_is_its_network() -> None:
    """Clients change the last 64 bits of their address at will (RFC 8981)."""
    policy = RefreshPolicy(client=GraceClient.ADDRESS)
    one, two, other = (
        policy.identity(ClientInfo("agent", address))
        for address in ("2001:db8:0:1:aaaa::1", "2001:DB8:0:1::2", "2001:db8:0:2::1")
    )
    assert one == two != other


def test_the_parts_of_an_identity_do_not_run_together() -> None:
    """No two different clients have one identity."""
    policy = RefreshPolicy()
    clients = [ClientInfo("a", "b"), ClientInfo("", "ab"), ClientInfo("ab", ""), ClientInfo("", "")]
    assert len({policy.identity(client) for client in clients}) == 4


async def test_the_store_does_not_hold_the_client(api: Api) -> None:
    """The used record contains neither the address nor the user agent of the client."""
    old, _ = await used_token(api)
    found = await api.store.get_refresh(refresh_id(old.encode()))
    assert found is not None
    assert found.sealed
    for text in HOME.values():
        assert text not in repr(found)
        assert text.encode() not in found.sealed
