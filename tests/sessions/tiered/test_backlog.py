"""What Redis missed is made good before it is trusted again."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import pytest
from fakeredis import FakeServer

from sidecar.sessions.redis.faults import Fault, RedisUnavailable
from sidecar.sessions.redis.store import RedisStore
from tests.peers.clock import Clock
from tests.peers.patience import until
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
        """Redis goes away for both."""
        await self.one.lose_redis()
        await self.other.lose_redis()

    async def find(self) -> None:
        """It comes back: for the first pod first."""
        await self.one.find_redis()
        await self.other.find_redis()

    async def live(self, grant: Grant) -> list[bool]:
        """At which pods this session is live."""
        token = grant.session.id
        return [await pod.look(token) is not None for pod in (self.one, self.other)]


@pytest.fixture(params=[False, True], ids=["keep", "migrate"])
async def pods(request: pytest.FixtureRequest) -> AsyncIterator[Pods]:
    """Both ways to recover."""
    made = Pods(migrate=request.param)
    async with AsyncExitStack() as running:
        for pod in (made.one, made.other):
            await running.enter_async_context(pod)
        yield made


@pytest.mark.parametrize("by", ["sid", "token", "user"])
async def test_a_logout_of_the_outage_reaches_everyone(pods: Pods, by: str) -> None:
    """Before a recovered Redis is believed; also at pods that had seen the session."""
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
    """At each logout that it hears of, somebody else logs out as well."""

    meanwhile: ClassVar[list[Callable[[], Awaitable[object]]]] = []

    async def revoke_session(self, sid: str) -> bool:
        """End one login."""
        ended = await super().revoke_session(sid)
        if self.meanwhile:
            await self.meanwhile.pop()()
        return ended


async def test_logouts_while_others_are_made_good() -> None:
    """They reach everyone before Redis is believed, as all those before them."""
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


async def test_a_logout_of_all_ends_what_had_begun(pods: Pods) -> None:
    """Not what began after it, here or at a pod that still had Redis."""
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
    """It ends all that was known to the pod, though that seems to have begun later."""
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
    """It seems to have begun before, and has not: it stays, and what was ended stays ended."""
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


async def test_a_login_of_the_outage(pods: Pods) -> None:
    """It stays where it began, or comes to be known everywhere."""
    await pods.lose()
    grant = await pods.one.subject.login()
    await pods.find()
    assert await pods.live(grant) == [True, pods.one.migrate]
    assert await pods.one.store.revoke_session(grant.session.sid)
    assert await pods.live(grant) == [False, False]


async def test_a_login_of_the_outage_that_was_refreshed(pods: Pods) -> None:
    """Its last token counts, and no other."""
    await pods.lose()
    first = await pods.one.subject.login()
    last = await pods.one.subject.refresh(first)
    assert last is not None
    await pods.find()
    assert await pods.live(first) == [False, False]
    assert await pods.live(last) == [True, pods.one.migrate]


async def test_a_login_of_the_outage_that_was_ended(pods: Pods) -> None:
    """It is not written, nor does what was written of it live."""
    await pods.lose()
    grant = await pods.one.subject.login()
    await pods.one.store.revoke_session(grant.session.sid)
    await pods.find()
    assert await pods.live(grant) == [False, False]
    assert await pods.other.store.sessions_of("alice") == []


async def test_a_refresh_in_the_outage_has_one_heir(pods: Pods) -> None:
    """The token that it used up is used up in Redis too, so that nobody else goes on with it."""
    grant = await pods.one.subject.login()
    await pods.lose()
    successor = await pods.one.subject.refresh(grant)
    assert successor is not None
    await pods.find()
    assert await pods.other.subject.refresh(grant) is None
    assert (await pods.live(successor))[0]


async def test_a_token_that_two_went_on_with(pods: Pods) -> None:
    """One pod without Redis, one with it: two heirs, so that the login ends for both."""
    grant = await pods.one.subject.login()
    await pods.lose()
    mine = await pods.one.subject.refresh(grant)
    assert mine is not None
    pods.other.server.connected = True
    theirs = await Tier(pods.clock, pods.other.server).subject.refresh(grant)
    assert theirs is not None
    await pods.find()
    assert await pods.live(mine) == [False, False]
    assert await pods.live(theirs) == [False, False]
    assert await pods.one.store.sessions_of("alice") == []


class Forgetful(RedisStore):
    """Does what it is told, and its answer to the first claim is lost."""

    claims = 0

    async def claim_refresh(self, refresh_id: str, used: RefreshRecord) -> RefreshRecord | None:
        """Put `used` in place of a live record."""
        before = await super().claim_refresh(refresh_id, used)
        self.claims += 1
        if self.claims == 1:
            raise RedisUnavailable(Fault.TIMEOUT)
        return before


async def test_a_refresh_whose_claim_arrived_all_the_same() -> None:
    """A Redis that stood still does what it was sent when it goes on: nobody else was there."""
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


async def test_a_logout_while_redis_hiccups(pods: Pods) -> None:
    """It is no outage yet; the logout arrives all the same."""
    grant = await pods.one.subject.login()
    assert await pods.live(grant) == [True, True]
    pods.one.server.connected = False
    await pods.one.store.revoke_session(grant.session.sid)
    pods.one.server.connected = True
    await pods.clock.turn(10.0)
    assert await pods.live(grant) == [False, False]
