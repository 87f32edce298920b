"""What Redis missed is replayed before Redis is trusted again."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import pytest
from fakeredis import FakeAsyncRedis, FakeServer
from msgspec.structs import replace

from sidecar.sessions.redis.faults import Fault, RedisUnavailable
from sidecar.sessions.redis.store import RedisStore
from tests.peers.clock import Clock
from tests.peers.patience import until
from tests.sessions.conftest import let_pass
from tests.sessions.contract import USED_TTL
from tests.sessions.tier import Tier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from sidecar.auth.session import Grant, RefreshRecord


class Pods:
    """Two pods on one Redis."""

    def __init__(self, *, migrate: bool) -> None:
        clock, server = Clock(), FakeServer()
        self.clock = clock
        self.one, self.other = (Tier(clock, server, migrate=migrate) for _ in range(2))

    async def lose(self) -> None:
        """Redis becomes unavailable for both."""
        await self.one.lose_redis()
        await self.other.lose_redis()

    async def find(self) -> None:
        """Redis returns, for the first pod first."""
        await self.one.find_redis()
        await self.other.find_redis()

    async def live(self, grant: Grant) -> list[bool]:
        """For each pod, whether this session is live."""
        token = grant.session.id
        return [await pod.look(token) is not None for pod in (self.one, self.other)]


@pytest.fixture(params=[False, True], ids=["keep", "migrate"])
async def pods(request: pytest.FixtureRequest) -> AsyncIterator[Pods]:
    """Two pods, with each SESSION_RECOVERY in turn."""
    made = Pods(migrate=request.param)
    async with AsyncExitStack() as running:
        for pod in (made.one, made.other):
            await running.enter_async_context(pod)
        yield made


@pytest.mark.parametrize("by", ["sid", "token", "user"])
async def test_a_logout_in_the_outage_reaches_every_pod(pods: Pods, by: str) -> None:
    """It takes effect before a recovered Redis is trusted, also at pods that cached it."""
    grant, bobs = await pods.one.subject.login(), await pods.one.subject.login("bob")
    assert await pods.live(grant) == [True, True]
    await pods.lose()
    pods.clock.advance(1.0)
    if by == "sid":
        await pods.one.store.revoke_session(grant.session.sid)
    elif by == "token":
        await pods.one.store.revoke_token(grant.session.id)
    else:
        await pods.one.store.revoke_user("alice")
    assert await pods.live(grant) == [False, True]
    await pods.find()
    assert await pods.live(grant) == [False, False]
    assert await pods.other.subject.record(grant.refresh_id) is None
    assert await pods.live(bobs) == [True, True]


class Interrupted(RedisStore):
    """A store in which each logout triggers another one."""

    meanwhile: ClassVar[list[Callable[[], Awaitable[object]]]] = []

    async def revoke_session(self, sid: str) -> bool:
        """End one login, then call the next of `meanwhile`."""
        ended = await super().revoke_session(sid)
        if self.meanwhile:
            await self.meanwhile.pop()()
        return ended


async def test_logouts_during_the_replay() -> None:
    """They reach every pod before Redis is trusted, like the logouts before them."""
    clock, server = Clock(), FakeServer()
    async with Tier(clock, server, remote_class=Interrupted) as one, Tier(clock, server) as other:
        sids = [(await other.subject.login()).session.sid for _ in range(4)]
        await one.lose_redis()
        Interrupted.meanwhile.extend(partial(one.store.revoke_session, sid) for sid in sids[1:])
        await one.store.revoke_session(sids[0])
        server.connected = True
        await clock.turn(0.5)
        await until(lambda: not one.store.degraded)
        assert await other.store.sessions_of("alice") == []


async def test_a_logout_of_all_ends_earlier_logins(pods: Pods) -> None:
    """It ends no login that began later, here or at a pod that still had Redis."""
    old = await pods.one.subject.login()
    await pods.lose()
    pods.clock.advance(1.0)
    await pods.one.store.revoke_user("alice")
    pods.clock.advance(1.0)
    pods.other.server.connected = True
    new = await Tier(pods.clock, pods.other.server).subject.login()
    await pods.find()
    assert await pods.live(old) == [False, False]
    assert await pods.live(new) == [True, True]


async def test_a_logout_of_all_by_a_clock_that_is_behind(pods: Pods) -> None:
    """It ends every login that the pod knew, although some seem to have begun later."""
    grant = await pods.other.subject.login()
    assert await pods.live(grant) == [True, True]
    await pods.lose()
    pods.clock.advance(-60.0)
    await pods.one.store.revoke_user("alice")
    assert (await pods.live(grant))[0] is False
    pods.clock.advance(60.0)
    await pods.find()
    assert await pods.live(grant) == [False, False]


async def test_a_login_after_a_logout_of_all_and_a_clock_set_back(pods: Pods) -> None:
    """It only seems to have begun earlier, so it stays live; ended logins stay ended."""
    old = await pods.one.subject.login()
    await pods.lose()
    pods.clock.advance(1.0)
    await pods.one.store.revoke_user("alice")
    pods.clock.advance(-60.0)
    new = await pods.one.subject.login()
    assert [await pods.live(grant) for grant in (old, new)] == [[False, False], [True, False]]
    await pods.find()
    assert await pods.live(old) == [False, False]
    assert (await pods.live(new))[0] is True


async def test_a_login_in_the_outage(pods: Pods) -> None:
    """It stays at its pod, or with `migrate` becomes known to every pod."""
    await pods.lose()
    grant = await pods.one.subject.login()
    await pods.find()
    assert await pods.live(grant) == [True, pods.one.migrate]
    assert await pods.one.store.revoke_session(grant.session.sid)
    assert await pods.live(grant) == [False, False]


async def test_a_refreshed_login_in_the_outage(pods: Pods) -> None:
    """Only its latest token is live after the recovery."""
    await pods.lose()
    first = await pods.one.subject.login()
    last = await pods.one.subject.refresh(first)
    assert last is not None
    await pods.find()
    assert await pods.live(first) == [False, False]
    assert await pods.live(last) == [True, pods.one.migrate]


async def test_a_grace_in_the_outage(pods: Pods) -> None:
    """A token that was replaced here counts here until its grace ends, whatever Redis holds."""
    grant = await pods.one.subject.login()
    await pods.lose()
    successor = await pods.one.subject.refresh(grant, 300.0)
    assert successor is not None
    until = pods.clock.now + 300.0
    for _ in range(2):
        assert await pods.one.look(grant.session.id) == replace(grant.session, exp=until)
        assert await pods.one.look(successor.session.id) == successor.session
        await pods.find()  # which takes 200 s
    await pods.clock.turn(101.0)
    found = await pods.one.look(grant.session.id)
    assert found is None or found.exp <= pods.clock.now
    assert await pods.one.look(successor.session.id) == successor.session


async def test_a_logout_in_a_grace_in_the_outage(pods: Pods) -> None:
    """A logout ends both tokens here at once, and everywhere after the recovery."""
    before, during = await pods.one.subject.login(), await pods.one.subject.login()
    first = await pods.one.subject.refresh(before, 600.0)
    assert await pods.other.look(before.session.id) is not None
    await pods.lose()
    second = await pods.one.subject.refresh(during, 600.0)
    assert first is not None
    assert second is not None
    everything = (before, during, first, second)
    assert [(await pods.live(each))[0] for each in everything] == [True] * 4
    for grant in (before, during):
        await pods.one.store.revoke_session(grant.session.sid)
    assert [(await pods.live(each))[0] for each in everything] == [False] * 4
    await pods.find()
    assert [await pods.live(each) for each in everything] == [[False, False]] * 4


async def test_an_ended_login_in_the_outage(pods: Pods) -> None:
    """It is not live after the recovery, whatever of it was written."""
    await pods.lose()
    grant = await pods.one.subject.login()
    await pods.one.store.revoke_session(grant.session.sid)
    await pods.find()
    assert await pods.live(grant) == [False, False]
    assert await pods.other.store.sessions_of("alice") == []


async def test_a_refresh_in_the_outage_has_one_successor(pods: Pods) -> None:
    """The used token is claimed in Redis as well, so no other pod accepts it."""
    grant = await pods.one.subject.login()
    await pods.lose()
    successor = await pods.one.subject.refresh(grant)
    assert successor is not None
    await pods.find()
    assert await pods.other.subject.refresh(grant) is None
    assert (await pods.live(successor))[0]


@pytest.mark.parametrize("late", [pytest.param(False, id="soon"), pytest.param(True, id="late")])
async def test_a_token_used_at_two_pods(pods: Pods, *, late: bool) -> None:
    """One pod had Redis and the other had not: two successors, so the login ends.

    Also when the used record is gone: the login's generation still shows the use.
    """
    grant = await pods.one.subject.login()
    await pods.lose()
    first = await pods.one.subject.refresh(grant)
    assert first is not None
    pods.other.server.connected = True
    second = await Tier(pods.clock, pods.other.server).subject.refresh(grant)
    assert second is not None
    if late:
        await forget_used(pods.other.server, pods.clock)
    await pods.find()
    assert await pods.live(first) == [False, False]
    assert await pods.live(second) == [False, False]
    assert await pods.one.store.sessions_of("alice") == []


async def forget_used(server: FakeServer, clock: Clock) -> None:
    """Let the time pass after which a used record expires, for Redis only."""
    client = FakeAsyncRedis(server=server)
    await let_pass(USED_TTL + 1, clock, client)
    clock.advance(-USED_TTL - 1)
    await client.aclose()


class Forgetful(RedisStore):
    """A store that loses the answer to the first claim and, if told to, to the first write."""

    claims = 0
    loses_write = False

    async def write(self, grant: Grant) -> bool:
        """Write a grant; if told to, raise once although it was written."""
        live = await super().write(grant)
        if self.loses_write:
            self.loses_write = False
            raise RedisUnavailable(Fault.TIMEOUT)
        return live

    async def claim_refresh(self, refresh_id: str, used: RefreshRecord) -> RefreshRecord | None:
        """Claim a refresh token; the first time, raise although it was claimed."""
        before = await super().claim_refresh(refresh_id, used)
        self.claims += 1
        if self.claims == 1:
            raise RedisUnavailable(Fault.TIMEOUT)
        return before


async def test_a_claim_that_arrived_although_it_timed_out() -> None:
    """A stalled Redis executes the claim later. The replay recognises its own claim."""
    clock, server = Clock(), FakeServer()
    async with Tier(clock, server, remote_class=Forgetful) as one:
        grant = await one.subject.login()
        successor = await one.subject.refresh(grant)
        assert successor is not None
        assert isinstance(one.remote, Forgetful)
        await clock.turn(10.0)
        await until(lambda: one.remote.claims == 2)  # type: ignore[attr-defined]  # as asserted
        await clock.turn(10.0)
        assert await one.look(successor.session.id) is not None
        assert await one.look(grant.session.id) is None


@pytest.mark.parametrize(
    "loses_write", [pytest.param(False, id="claim"), pytest.param(True, id="claim-and-write")]
)
async def test_a_claim_that_is_replayed_after_its_record_is_gone(*, loses_write: bool) -> None:
    """The generation in Redis is that of this pod's own refresh, so nobody else used the token."""
    clock, server = Clock(), FakeServer()
    async with Tier(clock, server, remote_class=Forgetful) as one:
        grant = await one.subject.login()
        assert isinstance(one.remote, Forgetful)
        one.remote.loses_write = loses_write
        successor = await one.subject.refresh(grant)
        assert successor is not None
        await forget_used(server, clock)
        await clock.turn(10.0)
        await until(lambda: one.remote.claims == 2)  # type: ignore[attr-defined]  # as asserted
        await clock.turn(10.0)
        assert not one.store.degraded
        assert await one.remote.get(successor.session.id) == successor.session
        assert await one.subject.refresh(successor) is not None


async def test_a_logout_during_a_single_failure(pods: Pods) -> None:
    """It is not an outage yet; the logout still reaches every pod."""
    grant = await pods.one.subject.login()
    assert await pods.live(grant) == [True, True]
    pods.one.server.connected = False
    await pods.one.store.revoke_session(grant.session.sid)
    pods.one.server.connected = True
    await pods.clock.turn(10.0)
    assert await pods.live(grant) == [False, False]
