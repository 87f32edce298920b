"""One pod, any order of faults, changes elsewhere and late answers: the promises of mode `local`.

The shared store is a local one that can be told to fail in each way that Redis has, to answer late,
and to tell of changes late. What is revoked is never let in again, nobody unknown ever is, and
nobody known is refused.
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
from sidecar.sessions.memory.local import LocalStore
from sidecar.sessions.redis.faults import Fault, RedisUnavailable
from sidecar.sessions.revocation.journal import Journal
from sidecar.sessions.tiered.breaker import Breaker
from sidecar.sessions.tiered.store import TieredStore
from sidecar.telemetry.metrics import Metrics
from tests.peers.clock import Clock
from tests.sessions.contract import ACCESS_TTL, new_login

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence
    from typing import TypeVar

    from sidecar.auth.session import Grant, RefreshRecord, Session, SessionInfo
    from sidecar.sessions.memory.near import NearCache
    from sidecar.sessions.store import LookupObserver

    T = TypeVar("T")

USERS: Final = st.sampled_from(["alice", "bob"])
MOST: Final = 4  # logins; the fewer, the more happens to each
FORGED: Final = ("forged", "f" * 64)


class Fate(StrEnum):
    """What becomes of an operation."""

    WELL = auto()
    REFUSED = auto()  # nobody listens
    SILENT = auto()  # it is not done, and that is not said
    LOST = auto()  # it is done, and the answer is lost
    READONLY = auto()  # reads go well


class Shared:
    """A `SharedStore` whose `truth` outlives every fault."""

    degraded = False
    reports_changes = False
    transitions = ()

    def __init__(self, clock: Clock) -> None:
        self.truth = LocalStore(clock)
        self.revocations = self.truth.revocations  # of which nothing is said here
        self.fate = Fate.WELL
        self.late: list[asyncio.Event] = []  # look-ups whose answers are on their way
        self.holding = False  # whether answers to look-ups are to be late
        self.near: NearCache | None = None
        self.tracked: set[str] = set()  # token ids of which the next change is told
        self.told: list[str] = []  # changes on their way to the pod
        self._observer: LookupObserver | None = None
        self._operations = 0

    def ended(self, sids: Iterable[str], ids: Iterable[str]) -> None:
        """Sessions have ended or changed here: whoever read them is told, sooner or later."""
        del sids
        for token_id in set(ids) & self.tracked:
            self.tracked.discard(token_id)
            self.told.append(token_id)

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
        self.ended((), before - set(self.truth.tokens))
        if fate is Fate.LOST:
            raise RedisUnavailable(Fault.TIMEOUT, number)
        return outcome

    def set_change_listener(self, listener: Callable[[str | None], None]) -> None:
        """The pod is told by its near cache."""

    async def token_of(self, sid: str) -> str | None:
        """As `LocalStore`."""
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

    def read_through(self, client: object) -> None:
        """There is one way only."""

    def peek(self, token_id: str) -> Session | None:
        """Nothing is certain."""
        return None

    def last_known(self, token_id: str) -> Session | None:
        """As `peek`."""
        return None

    def is_ended(self, session: Session) -> bool:
        """As `LocalStore`."""
        return False

    async def ping(self) -> None:
        """Answer, if at all."""
        await self._do(lambda: None)

    async def touch(self, sids: Sequence[str]) -> None:
        """Of no meaning here."""

    async def get(self, token_id: str) -> Session | None:
        """The live session; its answer may be late."""
        observer = self._observer
        assert observer is not None
        reading = observer.begin_lookup()
        try:
            session = await self._do(lambda: self.truth.peek(token_id))
            if self.near is not None and self.near.coherent:
                self.tracked.add(token_id)
            if self.holding:
                gate = asyncio.Event()
                self.late.append(gate)
                await gate.wait()
            observer.record_session(token_id, session, reading)
            return session
        finally:
            observer.end_lookup(reading)

    async def write(self, grant: Grant) -> bool:
        """As `LocalStore`."""
        return await self._do(lambda: self.truth.put(grant), writing=True)

    async def get_refresh(self, refresh_id: str) -> RefreshRecord | None:
        """As `LocalStore`."""
        return await self._do(lambda: self.truth.refresh_record(refresh_id))

    async def claim_refresh(self, refresh_id: str, used: RefreshRecord) -> RefreshRecord | None:
        """As `LocalStore`."""
        return await self._do(lambda: self.truth.claim(refresh_id, used), writing=True)

    async def revoke_session(self, sid: str) -> bool:
        """As `LocalStore`."""
        return await self._do(lambda: self.truth.drop(sid), writing=True)

    async def revoke_token(self, token_id: str) -> bool:
        """As `LocalStore`."""
        return await self._do(lambda: self.truth.drop_token(token_id), writing=True)

    async def revoke_user(
        self, sub: str, before: float | None = None, also: Iterable[str] = ()
    ) -> int:
        """As `RedisStore`."""

        def end() -> int:
            infos = self.truth.listing(sub)
            sids = {info.sid for info in infos if before is None or info.created < before}
            return sum(self.truth.drop(sid) for sid in sids | set(also))

        return await self._do(end, writing=True)

    async def sessions_of(self, sub: str) -> list[SessionInfo]:
        """As `LocalStore`."""
        return await self._do(lambda: self.truth.listing(sub))

    async def close(self) -> None:
        """Nothing to give back."""


class Promises(RuleBasedStateMachine):
    """One pod on such a store, and what it has promised."""

    grants: Bundle[Grant] = Bundle("grants")

    @initialize()
    def begin(self) -> None:
        """Start on a store that is there."""
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
        self.all: dict[str, Grant] = {}  # by token id: every one there ever was
        self.known: set[str] = set()  # token ids that were let in here, and not ended anywhere
        self.ended: set[str] = set()  # token ids ended here, or seen here to be gone
        self.over: set[str] = set()  # token ids whose logins were ended here
        self.pending: dict[str, asyncio.Task[None]] = {}  # look-ups under way, by token id

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it on the machine's loop."""
        return self.runner.run(work)

    async def allowed(self, token_id: str) -> bool:
        """What a request with this token gets in mode `local`, by a look-up of its own."""
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

    @precondition(lambda self: len(self.all) < MOST)
    @rule(target=grants, sub=USERS)
    def login(self, sub: str) -> Grant:
        """Somebody logs in here."""
        grant = new_login(self.clock.now, sub)
        self.all[grant.session.id] = grant
        if self.run(self.store.write(grant)):
            self.known.add(grant.session.id)
        return grant

    @precondition(lambda self: len(self.all) < MOST)
    @rule(target=grants, sub=USERS)
    def login_elsewhere(self, sub: str) -> Grant:
        """Somebody logs in at another pod."""
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
        """A user ends all logins here: what is known here, or began before."""
        now = self.clock.now
        mine = {key for key, grant in self.all.items() if grant.session.sub == sub}
        over = {key for key in mine if key in self.known or self.all[key].session.created < now}
        self.known -= mine
        self.run(self.store.revoke_user(sub))
        self.ended |= over
        self.over |= over

    @rule(grant=grants)
    def logout_elsewhere(self, grant: Grant) -> None:
        """A logout at another pod, which has the store: nothing is promised of it here."""
        session = grant.session
        if self.shared.truth.drop(session.sid):
            self.known.discard(session.id)
            self.shared.ended((), [session.id])

    @rule(fate=st.sampled_from(list(Fate)))
    def turn_fate(self, fate: Fate) -> None:
        """The store fails in this way from here on."""
        self.shared.fate = fate

    @rule(seconds=st.sampled_from([0.2, 1.0, 30.0]))
    def wait(self, seconds: float) -> None:
        """Time passes: probes, what is made good."""
        self.clock.advance(seconds)
        self.run(self.monotonic.turn(seconds))

    @rule(seconds=st.sampled_from([-100.0, 100.0]))
    def step(self, seconds: float) -> None:
        """The wall clock is set."""
        self.clock.advance(seconds)

    @precondition(lambda self: not self.store.degraded)
    @rule()
    def follow(self) -> None:
        """The link that tells of changes stands; what was on the one before is lost."""
        self.lose()
        self.store.near.begin_epoch()

    @rule()
    def lose(self) -> None:
        """It is lost, and that is noticed."""
        self.store.near.end_epoch()
        self.shared.tracked.clear()
        self.shared.told.clear()

    @precondition(lambda self: self.shared.told)
    @rule()
    def tell(self) -> None:
        """A change is told."""
        self.store.near.on_session_changed(self.shared.told.pop(0))

    @precondition(lambda self: len(self.pending) < 3)
    @rule(grant=grants)
    def ask(self, grant: Grant) -> None:
        """A look-up whose answer will be late; there is one of a key at a time."""
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
        assert session is None or token_id not in self.over, "let in late"

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
        """Somebody comes."""
        self.check(grant)

    @rule()
    def look_at_all(self) -> None:
        """Everybody does."""
        for grant in self.all.values():
            self.check(grant)

    def check(self, grant: Grant) -> None:
        """Who is let in is known from here on; who is seen to be gone has gone for good."""
        token_id = grant.session.id
        if grant.session.exp <= self.clock.now or token_id in self.pending:
            return
        there = self.shared.truth.peek(token_id) is not None
        let_in = self.run(self.allowed(token_id))
        assert not (let_in and token_id in self.ended), "let in again"
        assert let_in or token_id not in self.known, "refused"
        if let_in and there:
            self.known.add(token_id)
        elif not let_in and not there:
            self.ended.add(token_id)

    @rule(token_id=st.sampled_from(FORGED))
    def forge(self, token_id: str) -> None:
        """Nobody logged in with this."""
        assert not self.run(self.allowed(token_id))

    @invariant()
    def nothing_ended_is_certain(self) -> None:
        """Without asking, and so without a change to anything."""
        if not hasattr(self, "store"):
            return
        for token_id in (*FORGED, *self.ended):
            assert self.store.peek(token_id) is None
        for token_id in self.all.keys() - set(self.shared.told):
            if self.shared.truth.peek(token_id) is None:
                assert self.store.near.peek(token_id) is None

    def teardown(self) -> None:
        """In the end the store is there, knows of every logout, and all is as promised."""
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
        """Look at all of them, with the store as it is and as it should be."""
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
