"""One pod, any order of faults, changes elsewhere and late answers: the promises of mode `local`.

The shared store is a local one that can fail in every way that Redis does, answer late, and report
changes late. A revoked session is never live again, an unknown one is never live, and a known one
is never refused.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum, auto
from typing import TYPE_CHECKING, Any, Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from sidecar.errors import StoreUnavailable
from sidecar.sessions.listing import PAGE, page_of
from sidecar.sessions.memory.local import LocalStore
from sidecar.sessions.redis.faults import Fault, RedisUnavailable
from sidecar.sessions.revocation.journal import Journal
from sidecar.sessions.store import ServerName
from sidecar.sessions.tiered.breaker import Breaker
from sidecar.sessions.tiered.store import TieredStore
from sidecar.telemetry.metrics import Metrics
from tests.peers.clock import Clock
from tests.peers.signed import NAMES
from tests.sessions.contract import ACCESS_TTL, new_login

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence
    from typing import TypeVar

    from sidecar.auth.session import Grant, RefreshRecord, Session, SessionInfo
    from sidecar.sessions.listing import Position
    from sidecar.sessions.memory.near import NearCache
    from sidecar.sessions.store import LookupObserver

    T = TypeVar("T")

USERS: Final = st.sampled_from(["alice", "bob"])
MAX_LOGINS: Final = 4  # few, so that much happens to each
FORGED: Final = ("forged", "f" * 64)


class Fate(StrEnum):
    """What happens to an operation."""

    WELL = auto()
    REFUSED = auto()  # the connection is refused
    SILENT = auto()  # it is not executed, and no answer arrives
    LOST = auto()  # it is executed, and the answer is lost
    READONLY = auto()  # only reads work


class Shared:
    """A `SharedStore` whose `truth` outlives every fault."""

    degraded = False
    outage_confirmed = False
    reports_changes = False
    transitions = ()
    names = NAMES
    server = ServerName()

    def __init__(self, clock: Clock) -> None:
        self.truth = LocalStore(clock)
        self.revocations = self.truth.revocations  # not part of this test
        self.fate = Fate.WELL
        self.late: list[asyncio.Event] = []  # look-ups whose answers are in flight
        self.holding = False  # whether answers to look-ups arrive late
        self.near: NearCache | None = None
        self.tracked: set[str] = set()  # token ids whose next change is reported
        self.reported: list[str] = []  # changes in flight to the pod
        self._observer: LookupObserver | None = None
        self._operations = 0

    def changed(self, ids: Iterable[str]) -> None:
        """These sessions ended or changed: report the tracked ones to the pod, at some time."""
        for token_id in set(ids) & self.tracked:
            self.tracked.discard(token_id)
            self.reported.append(token_id)

    async def _do(self, work: Callable[[], T], *, writing: bool = False) -> T:
        self._operations += 1
        number, fate = self._operations, self.fate
        await asyncio.sleep(0)
        if fate is Fate.REFUSED:
            raise RedisUnavailable(Fault.REFUSED, number)
        if fate is Fate.SILENT:
            raise RedisUnavailable(Fault.TIMEOUT, number)
        if writing and fate is Fate.READONLY:
            raise RedisUnavailable(Fault.READONLY, number)
        before = set(self.truth.tokens)
        outcome = work()
        self.changed(before - set(self.truth.tokens))
        if fate is Fate.LOST:
            raise RedisUnavailable(Fault.TIMEOUT, number)
        return outcome

    def set_change_listener(self, listener: Callable[[str | None], None]) -> None:
        """Do nothing: the near cache reports changes."""

    async def token_of(self, sid: str) -> str | None:
        """The current token id of a login."""
        login = await self._do(lambda: self.truth.login(sid))
        return None if login is None else login.session.id

    async def start(self) -> None:
        """Do nothing."""

    def describe(self) -> dict[str, Any]:
        """Nothing but its kind."""
        return {"kind": "scripted"}

    def set_observer(self, observer: LookupObserver) -> None:
        """Report every look-up to `observer`."""
        self._observer = observer

    def read_through(self, reads: object) -> None:
        """Do nothing: there is only one connection."""

    def peek(self, token_id: str) -> Session | None:
        """None: nothing is certain."""
        return None

    def last_known(self, token_id: str) -> Session | None:
        """None: this store keeps nothing in memory."""
        return None

    def is_ended(self, session: Session) -> bool:
        """False: this store keeps nothing in memory."""
        return False

    async def ping(self) -> None:
        """Answer, depending on `fate`."""
        await self._do(lambda: None)

    async def touch(self, sids: Sequence[str]) -> None:
        """Do nothing: the time is not part of this test."""

    async def get(self, token_id: str) -> Session | None:
        """The live session. With `holding`, the answer waits for an event in `late`."""
        observer = self._observer
        assert observer is not None
        lookup = observer.begin_lookup()
        try:
            session = await self._do(lambda: self.truth.peek(token_id))
            if self.near is not None and self.near.coherent:
                self.tracked.add(token_id)
            if self.holding:
                gate = asyncio.Event()
                self.late.append(gate)
                await gate.wait()
            return observer.record_session(token_id, session, lookup)
        finally:
            observer.end_lookup(lookup)

    async def write(self, grant: Grant) -> bool:
        """Write a grant, depending on `fate`."""
        return await self._do(lambda: self.truth.put(grant), writing=True)

    async def get_refresh(self, refresh_id: str) -> RefreshRecord | None:
        """The record of a refresh token, depending on `fate`."""
        return await self._do(lambda: self.truth.refresh_record(refresh_id))

    async def claim_refresh(self, refresh_id: str, used: RefreshRecord) -> RefreshRecord | None:
        """Claim a refresh token, depending on `fate`."""
        return await self._do(lambda: self.truth.claim(refresh_id, used), writing=True)

    async def revoke_session(self, sid: str) -> bool:
        """End one login, depending on `fate`."""
        return await self._do(lambda: self.truth.drop(sid), writing=True)

    async def revoke_token(self, token_id: str) -> bool:
        """End a token's login, depending on `fate`."""
        return await self._do(lambda: self.truth.drop_token(token_id), writing=True)

    async def revoke_user(
        self, sub: str, before: float | None = None, also: Iterable[str] = ()
    ) -> int:
        """End a user's logins, or those that began `before` and `also`, depending on `fate`."""

        def end() -> int:
            infos = self.truth.listing(sub)
            sids = {info.sid for info in infos if before is None or info.created < before}
            return sum(self.truth.drop(sid) for sid in sids | set(also))

        return await self._do(end, writing=True)

    async def login_of(self, sub: str, sid: str) -> SessionInfo | None:
        """One of the user's live logins, depending on `fate`."""
        return await self._do(lambda: self.truth.info_of(sub, sid))

    async def sessions_of(
        self, sub: str, after: Position | None = None, limit: int = PAGE
    ) -> list[SessionInfo]:
        """The user's live logins, depending on `fate`."""
        return await self._do(lambda: page_of(self.truth.listing(sub), after, limit))

    async def login_times(self, sub: str, *, above: int) -> dict[str, float]:
        """When the user's live logins began, depending on `fate`."""
        times = {info.sid: info.created for info in self.truth.listing(sub)}
        return await self._do(lambda: times if len(times) > above else {})

    async def generation_of(self, sid: str) -> int | None:
        """The generation of a live login, depending on `fate`."""
        login = self.truth.login(sid)
        return await self._do(lambda: login.generation if login else None)

    async def count_repeat(self, refresh_id: str, used: RefreshRecord) -> int | None:
        """Count a repeat, depending on `fate`."""
        return await self._do(lambda: self.truth.repeated(refresh_id))

    async def close(self) -> None:
        """Do nothing."""


class Promises(RuleBasedStateMachine):
    """One pod on such a store, and what it has promised so far."""

    grants: Bundle[Grant] = Bundle("grants")

    @initialize()
    def begin(self) -> None:
        """Start on an available store."""
        self.runner = asyncio.Runner()
        self.clock, self.monotonic = Clock(), Clock(0.0)
        self.shared = Shared(self.clock)
        self.journal = Journal()
        self.store = TieredStore(
            self.shared,
            Breaker(),
            Metrics(),
            clock=self.clock,
            monotonic=self.monotonic,
            sleep=self.monotonic.sleep,
            jitter=lambda: 0.0,
            journal=self.journal,
        )
        self.shared.near = self.store.near
        self.run(self.store.start())
        self.all: dict[str, Grant] = {}  # every grant ever made, by token id
        self.known: set[str] = set()  # token ids that were allowed here, and not ended anywhere
        self.ended: set[str] = set()  # token ids ended here, or seen here to be gone
        self.over: set[str] = set()  # token ids whose logins were ended here
        self.pending: dict[str, asyncio.Task[None]] = {}  # look-ups in flight, by token id

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the state machine's loop."""
        return self.runner.run(work)

    async def allowed(self, token_id: str) -> bool:
        """Whether mode `local` allows a request with this token, by its own look-up."""
        session = self.store.peek(token_id)
        if session is None:
            held, self.shared.holding = self.shared.holding, False
            try:
                session = await self.store.get(token_id)
            except StoreUnavailable:
                session = self.store.last_known(token_id)
            finally:
                self.shared.holding = held
        return session is not None and session.exp > self.clock.now

    @precondition(lambda self: len(self.all) < MAX_LOGINS)
    @rule(target=grants, sub=USERS)
    def login(self, sub: str) -> Grant:
        """A user logs in here."""
        grant = new_login(self.clock.now, sub)
        self.all[grant.session.id] = grant
        if self.run(self.store.write(grant)):
            self.known.add(grant.session.id)
        return grant

    @precondition(lambda self: len(self.all) < MAX_LOGINS)
    @rule(target=grants, sub=USERS)
    def login_elsewhere(self, sub: str) -> Grant:
        """A user logs in at another pod."""
        grant = new_login(self.clock.now, sub)
        self.all[grant.session.id] = grant
        assert self.shared.truth.put(grant)
        return grant

    @rule(grant=grants, by_token=st.booleans())
    def logout(self, grant: Grant, by_token: bool) -> None:  # noqa: FBT001 (drawn)
        """A logout here."""
        session = grant.session
        self.known.discard(session.id)
        if by_token:
            self.run(self.store.revoke_token(session.id))
        else:
            self.run(self.store.revoke_session(session.sid))
        self.ended.add(session.id)
        self.over.add(session.id)

    @rule(sub=USERS)
    def logout_of_all(self, sub: str) -> None:
        """A user ends all logins here: those that are known here, or began earlier."""
        now = self.clock.now
        own = {key for key, grant in self.all.items() if grant.session.sub == sub}
        over = {key for key in own if key in self.known or self.all[key].session.created < now}
        self.known -= own
        self.run(self.store.revoke_user(sub))
        self.ended |= over
        self.over |= over

    @rule(grant=grants)
    def logout_elsewhere(self, grant: Grant) -> None:
        """A logout at another pod, which can use the store. This pod promises nothing about it."""
        session = grant.session
        if self.shared.truth.drop(session.sid):
            self.known.discard(session.id)
            self.shared.changed([session.id])

    @rule(fate=st.sampled_from(list(Fate)))
    def turn_fate(self, fate: Fate) -> None:
        """The store fails in this way from now on."""
        self.shared.fate = fate

    @rule(seconds=st.sampled_from([0.2, 1.0, 30.0]))
    def wait(self, seconds: float) -> None:
        """Time passes: probes and replays happen."""
        self.clock.advance(seconds)
        self.run(self.monotonic.turn(seconds))

    @rule(seconds=st.sampled_from([-100.0, 100.0]))
    def step(self, seconds: float) -> None:
        """The wall clock is set."""
        self.clock.advance(seconds)

    @precondition(lambda self: not self.store.degraded)
    @rule()
    def begin_epoch(self) -> None:
        """The tracking link is established; changes in flight on the previous one are lost."""
        self.end_epoch()
        self.store.near.begin_epoch()

    @rule()
    def end_epoch(self) -> None:
        """The tracking link is lost, and the pod notices."""
        self.store.near.end_epoch()
        self.shared.tracked.clear()
        self.shared.reported.clear()

    @precondition(lambda self: self.shared.reported)
    @rule()
    def report(self) -> None:
        """The report of a change arrives."""
        self.store.near.on_session_changed(self.shared.reported.pop(0))

    @precondition(lambda self: len(self.pending) < 3)
    @rule(grant=grants)
    def ask(self, grant: Grant) -> None:
        """Begin a look-up whose answer will be late; at most one per key."""
        token_id = grant.session.id

        async def begin() -> None:
            self.shared.holding = True
            self.pending[token_id] = asyncio.ensure_future(self._late(token_id))
            await self._turn()
            self.shared.holding = False

        if token_id not in self.pending:
            self.run(begin())

    async def _late(self, token_id: str) -> None:
        try:
            session = await self.store.get(token_id)
        except StoreUnavailable:
            return
        assert session is None or token_id not in self.over, "allowed by a late answer"

    async def _turn(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        for token_id, work in list(self.pending.items()):
            if work.done():
                del self.pending[token_id]
                work.result()

    @precondition(lambda self: self.shared.late)
    @rule(last=st.booleans())
    def answer(self, last: bool) -> None:  # noqa: FBT001 (drawn)
        """A late answer arrives."""

        async def arrive() -> None:
            self.shared.late.pop(-1 if last else 0).set()
            await self._turn()

        self.run(arrive())

    @rule(grant=grants)
    def look(self, grant: Grant) -> None:
        """A request arrives."""
        self.check(grant)

    @rule()
    def look_at_all(self) -> None:
        """A request arrives for every grant."""
        for grant in self.all.values():
            self.check(grant)

    def check(self, grant: Grant) -> None:
        """An allowed session is known from now on. One that was seen to be gone stays ended."""
        token_id = grant.session.id
        if grant.session.exp <= self.clock.now or token_id in self.pending:
            return
        live = self.shared.truth.peek(token_id) is not None
        allowed = self.run(self.allowed(token_id))
        assert not (allowed and token_id in self.ended), "allowed again"
        assert allowed or token_id not in self.known, "refused"
        if allowed and live:
            self.known.add(token_id)
        elif not allowed and not live:
            self.ended.add(token_id)

    @rule(token_id=st.sampled_from(FORGED))
    def forge(self, token_id: str) -> None:
        """A token without a login is never allowed."""
        assert not self.run(self.allowed(token_id))

    @invariant()
    def nothing_ended_is_certain(self) -> None:
        """`peek` returns no session that ended. It changes nothing."""
        if not hasattr(self, "store"):
            return
        for token_id in (*FORGED, *self.ended):
            assert self.store.peek(token_id) is None
        for token_id in self.all.keys() - set(self.shared.reported):
            if self.shared.truth.peek(token_id) is None:
                assert self.store.near.peek(token_id) is None

    def teardown(self) -> None:
        """Once the store works again, it knows of every logout, and every promise holds."""
        if not hasattr(self, "runner"):
            return
        try:
            self.come_to_rest()
        finally:
            for gate in self.shared.late:
                gate.set()
            self.run(self.store.close())
            self.runner.close()

    def come_to_rest(self) -> None:
        """Check all grants, with the store as it is, and after it has recovered."""
        self.look_at_all()
        while self.shared.late:
            self.answer(last=False)
        self.shared.fate = Fate.WELL
        for _ in range(3):
            self.wait(1.0)
        assert not self.store.degraded
        assert not len(self.journal)
        assert not [each for each in self.over if self.shared.truth.peek(each) is not None]
        self.look_at_all()


assert ACCESS_TTL > 100.0
TestPromises = Promises.TestCase
TestPromises.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)
