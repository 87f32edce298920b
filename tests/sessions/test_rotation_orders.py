"""Refreshes in any order of claims, slow, repeated and lost writes, and expiry: one successor each.

The steps are those of `api/refresh.py`; the machine decides when each write arrives, if ever.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import fakeredis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from sidecar.sessions.memory.local import LocalStore
from tests.peers.clock import Clock
from tests.sessions.conftest import let_pass, make_redis_store
from tests.sessions.contract import USED_TTL, new_login, successor_of, used_of

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from sidecar.auth.session import Grant
    from sidecar.sessions.store import SessionStore

NUMBERS = st.integers(0, 100)


class Rotations(RuleBasedStateMachine):
    """Logins in one store, and writes of refreshes that are still on their way."""

    grants: Bundle[Grant] = Bundle("grants")
    grace = 0.0  # of a replaced access token

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.store = self.make_store()
        self.latest: dict[str, Grant] = {}  # by sid: the grant of the highest generation written
        self.written: dict[tuple[str, int], str] = {}  # token id by sid and generation
        self.successors: dict[bytes, Grant] = {}  # by the seal of the claim
        self.on_their_way: list[Grant] = []

    def make_store(self) -> SessionStore:
        """The store under test."""
        return LocalStore(self.clock)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run `work` on the state machine's loop."""
        return self.runner.run(work)

    async def forward(self, seconds: float) -> None:
        """Let time pass for the store."""
        self.clock.advance(seconds)

    @rule(target=grants)
    def login(self) -> Grant:
        """A user logs in."""
        grant = new_login(self.clock.now)
        assert self.run(self.store.write(grant))
        self.latest[grant.session.sid] = grant
        self.written[grant.session.sid, 0] = grant.session.id
        return grant

    @rule(target=grants, grant=grants)
    def claim(self, grant: Grant) -> Grant:
        """A client shows the refresh token of a grant, old or current, written or not."""
        used = used_of(grant, self.clock.now)
        before = self.run(self.store.claim_refresh(grant.refresh_id or "", used))
        if before is None:
            return grant
        if before.used_at is None:
            successor = self.successors[used.sealed] = successor_of(
                grant, self.clock.now, self.grace
            )
        else:
            successor = self.successors[before.sealed]
            if self.run(self.store.get_refresh(successor.refresh_id or "")) is not None:
                return successor
        self.on_their_way.append(successor)
        return successor

    @rule(number=NUMBERS, again=st.booleans())
    def deliver(self, number: int, again: bool) -> None:  # noqa: FBT001 (drawn)
        """A write arrives, and perhaps later a second time."""
        if self.on_their_way:
            grant = self.on_their_way.pop(number % len(self.on_their_way))
            if again:
                self.on_their_way.append(grant)
            self._write(grant)

    @rule(grant=grants)
    def write_again(self, grant: Grant) -> None:
        """A refresh is written once more, for example when an outage is over."""
        if grant.generation and grant.session.id in self.written.values():
            self._write(grant)

    @rule(number=NUMBERS)
    def lose(self, number: int) -> None:
        """A write is lost with its pod."""
        if self.on_their_way:
            self.on_their_way.pop(number % len(self.on_their_way))

    @rule(grant=grants)
    def logout(self, grant: Grant) -> None:
        """A login ends."""
        self.run(self.store.revoke_session(grant.session.sid))
        self.latest.pop(grant.session.sid, None)

    @rule(seconds=st.sampled_from([1.0, USED_TTL + 1]))
    def wait(self, seconds: float) -> None:
        """Time passes; used records expire, but no login and no access token does."""
        if self.clock.now < 1_750_000_000 + 600:
            self.run(self.forward(seconds))

    @invariant()
    def one_grant_of_each_login_is_live(self) -> None:
        """It is the latest one that was written. Nothing else is live, and nothing is lost."""
        self.run(self._check())

    async def _check(self) -> None:
        live = {each.session.id for each in self.latest.values()}
        token_ids = [*self.written.values()]
        found = await asyncio.gather(*map(self.store.get, token_ids))
        in_grace = {
            each.replaces for each in self.latest.values() if each.replaced_until > self.clock.now
        }
        # A late write may end a grace early.
        assert live <= {each.id for each in found if each is not None} <= live | in_grace
        for sid, grant in self.latest.items():
            assert await self.store.generation_of(sid) == grant.generation
            if grant.refresh_id not in self._claimed():
                assert await self.store.get_refresh(grant.refresh_id or "") == grant.refresh

    def teardown(self) -> None:
        """Stop the store."""
        self.run(self.store.close())
        self.runner.close()

    def _claimed(self) -> set[str]:
        """The refresh ids that were ever claimed."""
        return {each.refresh.previous[0] for each in self.successors.values() if each.refresh}

    def _write(self, grant: Grant) -> None:
        sid, generation = grant.session.sid, grant.generation
        live = self.run(self.store.write(grant))
        latest = self.latest.get(sid)
        if not live:
            return
        assert latest is not None
        assert generation >= latest.generation
        # "Used twice" would be two different successors of one token.
        assert self.written.setdefault((sid, generation), grant.session.id) == grant.session.id
        self.latest[sid] = grant


class RedisRotations(Rotations):
    """The same in Redis."""

    def make_store(self) -> SessionStore:
        """A store in Redis."""
        self.client = fakeredis.FakeAsyncRedis()
        return make_redis_store(self.client, self.clock)

    async def forward(self, seconds: float) -> None:
        """Let time pass for the store and the keys in Redis."""
        await let_pass(seconds, self.clock, self.client)


class RotationsWithGrace(Rotations):
    """The same with a grace that is longer than a wait."""

    grace = 10.0


class RedisRotationsWithGrace(RedisRotations):
    """The same in Redis."""

    grace = 10.0


TestRotations = Rotations.TestCase
TestRotations.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRedisRotations = RedisRotations.TestCase
TestRedisRotations.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestRotationsWithGrace = RotationsWithGrace.TestCase
TestRotationsWithGrace.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRedisRotationsWithGrace = RedisRotationsWithGrace.TestCase
TestRedisRotationsWithGrace.settings = settings(
    max_examples=30, stateful_step_count=40, deadline=None
)
