"""Two pods, any order of logins, logouts, refreshes and outages: what ended stays ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fakeredis import FakeServer
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    rule,
)

from sidecar.errors import StoreUnavailable
from tests.peers.clock import Clock
from tests.sessions.contract import new_login, successor_of, used_of
from tests.sessions.tier import Tier

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from sidecar.auth.session import Grant, RefreshRecord

PODS = st.integers(0, 1)
USERS = st.sampled_from(["alice", "bob"])


class Orders(RuleBasedStateMachine):
    """Two pods, one Redis with outages, and the sessions that must not be live at each pod."""

    grants: Bundle[Grant] = Bundle("grants")

    @initialize()
    def begin(self) -> None:
        """Start both pods on an available Redis."""
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.server = FakeServer()
        self.pods = [Tier(self.clock, self.server) for _ in range(2)]
        self.run(self._start())
        # By pod: what ended there, or was seen to be gone there, and must not be live there again.
        self.ended: list[set[str]] = [set(), set()]
        self.gone: set[str] = set()  # gone from Redis: a pod that asks Redis must see that
        self.unreplayed: set[str] = set()  # gone from Redis before Redis is trusted again
        self.partial: set[str] = set()  # written in an outage: one pod may have its own part

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run `work` on the state machine's loop."""
        return self.runner.run(work)

    async def _start(self) -> None:
        for pod in self.pods:
            await pod.store.start()

    @rule(target=grants, pod=PODS, sub=USERS)
    def login(self, pod: int, sub: str) -> Grant:
        """A user logs in at this pod, and the session is live there."""
        grant = new_login(self.clock.now, sub)
        assert self.run(self.pods[pod].store.write(grant))
        assert self.run(self.pods[pod].look(grant.session.id)) is not None
        if self.pods[pod].store.degraded:
            self.partial.add(grant.session.sid)
        return grant

    @rule(target=grants, grant=consumes(grants), pod=PODS)
    def refresh(self, grant: Grant, pod: int) -> Grant:
        """A refresh at this pod. Returns the current grant; a refused refresh ends nothing."""
        store, now = self.pods[pod].store, self.clock.now
        used = used_of(grant, now)
        try:
            before = self.run(store.claim_refresh(grant.refresh_id or "", used))
        except StoreUnavailable:
            assert store.degraded
            return grant
        if before is None or before.used_at is not None:
            return grant
        successor = successor_of(grant, now)
        if not self.run(store.write(successor)):
            return grant
        self.ended[pod].add(grant.session.id)
        assert successor.session.sid not in self.ended[pod]
        assert self.run(self.pods[pod].look(successor.session.id)) is not None
        if self.pods[pod].store.degraded:
            self.partial.add(grant.session.sid)
        return successor

    @rule(grant=grants, pod=PODS, by_token=st.booleans())
    def logout(self, grant: Grant, pod: int, by_token: bool) -> None:  # noqa: FBT001 (drawn)
        """A logout at this pod."""
        store, session = self.pods[pod].store, grant.session
        if by_token:
            was_live = self.run(self.pods[pod].look(session.id)) is not None
            self.run(store.revoke_token(session.id))
            self.ended[pod] |= {session.id, session.sid} if was_live else {session.id}
        else:
            self.run(store.revoke_session(session.sid))
            self.ended[pod].add(session.sid)
        if session.sid in self.ended[pod]:
            (self.unreplayed if self.pods[pod].store.degraded else self.gone).add(session.sid)

    @rule(sub=USERS, pod=PODS)
    def logout_of_all(self, sub: str, pod: int) -> None:
        """A user ends all earlier logins at this pod."""
        self.clock.advance(1.0)
        self.run(self.pods[pod].store.revoke_user(sub))
        assert self.run(self.pods[pod].store.sessions_of(sub)) == []

    @rule()
    def lose_redis(self) -> None:
        """Redis becomes unavailable, and both pods notice."""
        if self.server.connected:
            self.server.connected = False
            for pod in self.pods:
                self.run(pod.lose_redis())

    @rule()
    def find_redis(self) -> None:
        """Redis returns with all its data."""
        if not self.server.connected:
            for pod in self.pods:
                self.run(pod.find_redis())
            self.gone |= self.unreplayed
            self.unreplayed.clear()

    @rule()
    def single_failure(self) -> None:
        """One operation at each pod fails, which is not an outage yet."""
        if self.server.connected:
            self.server.connected = False
            for pod in self.pods:
                self.run(pod.look("unknown"))
            self.server.connected = True

    @rule(seconds=st.sampled_from([1.0, 60.0, 1000.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.run(self.clock.turn(seconds))

    @rule(grant=grants)
    def look(self, grant: Grant) -> None:
        """No pod reports a session as live that ended there, nor its refresh token."""
        for number, pod in enumerate(self.pods):
            if not pod.store.degraded and grant.session.sid in self.gone - self.partial:
                self.ended[number].add(grant.session.sid)  # it sees that now
            session = self.run(pod.look(grant.session.id))
            ended = self.ended[number] & {grant.session.id, grant.session.sid}
            assert session is None or not ended
            if grant.session.sid in self.ended[number]:
                record = self.run(self._record(pod, grant.refresh_id or ""))
                assert record is None or record.used_at is not None

    async def _record(self, pod: Tier, refresh_id: str) -> RefreshRecord | None:
        try:
            return await pod.store.get_refresh(refresh_id)
        except StoreUnavailable:
            assert pod.store.degraded
            return None

    def teardown(self) -> None:
        """Stop the pods."""
        if hasattr(self, "runner"):
            for pod in self.pods:
                self.run(pod.store.close())
            self.runner.close()


TestOrders = Orders.TestCase
TestOrders.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
