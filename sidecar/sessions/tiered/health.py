"""Decides when Redis is in use. Logs one line per change.

Owns the breaker's clock and the tasks that probe, so that no request has to. It is given the
replay that must succeed before Redis is trusted again. Knows nothing of sessions.

Only look-ups and probes are small enough for their duration to say something about Redis. If any
other operation is slow, a probe decides.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from sidecar.errors import StoreUnavailable
from sidecar.sessions.redis.faults import CERTAIN, WRITES_ONLY, Fault, RedisUnavailable
from sidecar.sessions.store import ServerName
from sidecar.sessions.tiered.outage_report import OutageReport
from sidecar.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from sidecar.sessions.tiered.breaker import Breaker

T = TypeVar("T")

NOT_AVAILABLE: Final = "Redis not available, using in-memory session cache"
AVAILABLE: Final = "Redis available again, using the shared session cache"
REFUSES_WRITES: Final = "Redis refuses writes, keeping new sessions in memory"
ACCEPTS_WRITES: Final = "Redis accepts writes again"

_TRANSITIONS_KEPT: Final = 32
_REPLAY_INTERVAL: Final = 1.0  # seconds, while Redis is in use and the backlog is not empty
_CHECK_INTERVAL: Final = 0.1  # seconds before each probe, while Redis is in use but in doubt
_CONFIRMED_AFTER: Final = 2.0  # seconds after which a failed probe confirms an outage
# Faults of the server as a whole, which no operation can cause.
_SERVER: Final = CERTAIN - WRITES_ONLY

logger = logging.getLogger("sidecar.sessions")


class StateMetrics(Protocol):
    """Shows the state: whether Redis is unusable (0 or 1), the breaker, and transition counts."""

    degraded: int
    breaker_state: str
    transitions: dict[str, int]


class StoreMetrics(StateMetrics, Protocol):
    """Shows the state, and counts look-ups by (source, result)."""

    lookups: dict[tuple[str, str], int]


class RedisHealth:
    """Runs operations on Redis while it is in use, and learns from their outcomes.

    `probe` sends Redis any question. `replay` sends what Redis missed, and returns whether nothing
    is left. Both raise RedisUnavailable. `server` is its name in logs. `on_change` is called after
    `degraded` changed. `clock` returns seconds since the epoch; `monotonic` and `sleep` are in
    seconds; `jitter` returns numbers in [0, 1).

    `confirmed` says that Redis is away, not just slow for a moment: nothing listens on its port, or
    it has been out of use for some seconds and probes still fail.
    """

    def __init__(
        self,
        breaker: Breaker,
        metrics: StateMetrics,
        probe: Callable[[], Awaitable[None]],
        replay: Callable[[], Awaitable[bool]],
        on_change: Callable[[], None],
        *,
        server: ServerName | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.degraded = False
        self.confirmed = False
        self.transitions: deque[dict[str, Any]] = deque(maxlen=_TRANSITIONS_KEPT)  # oldest first
        self._report = OutageReport(ServerName() if server is None else server)
        self._clock = clock
        self._breaker = breaker
        self._metrics = metrics
        self._probe = probe
        self._replay = replay
        self._on_change = on_change
        self._monotonic = monotonic
        self._sleep = sleep
        self._jitter = jitter
        self._refuses_writes = False
        self._last_failed = 0  # the operation counted last: its callers share one failure
        self._degraded_at = 0.0
        self._work_to_do = asyncio.Event()
        self._doubt = asyncio.Event()
        self._tasks = Tasks()

    def __repr__(self) -> str:
        return f"<RedisHealth {self._breaker!r}>"

    def describe(self) -> dict[str, str]:
        """Which Redis it is, and what is wrong with it, for `/status`."""
        return self._report.describe()

    async def start(self) -> None:
        """Probe Redis, and watch it from now on. An unreachable Redis is not an error."""
        answered = False
        try:
            await self._probe()
            answered = True
            await self._replay()
        except RedisUnavailable as unavailable:
            if answered and unavailable.fault in WRITES_ONLY:
                self.failed(unavailable, writing=True)
                self._work_to_do.set()
            elif self._breaker.failed(self._monotonic(), self._jitter(), certain=True):
                self._degrade(unavailable.fault)
        self._tasks.spawn(self._watch(), "redis health")
        self._tasks.spawn(self._check(), "redis check")

    async def close(self) -> None:
        """Stop watching Redis and probing it."""
        await self._tasks.close()

    async def look_up(self, work: Coroutine[Any, Any, T]) -> T:
        """The outcome of `work`, a look-up, which also updates the breaker.

        Raises StoreUnavailable, at once while Redis is not in use.
        """
        self._require(work)
        try:
            outcome = await work
        except RedisUnavailable as unavailable:
            self._count(unavailable)
            raise
        self._breaker.succeeded()
        return outcome

    async def run(self, work: Coroutine[Any, Any, T], *, writing: bool = False) -> T:
        """The outcome of `work`, any other operation on Redis. Otherwise like `look_up`."""
        self._require(work)
        try:
            outcome = await work
        except RedisUnavailable as unavailable:
            self.failed(unavailable, writing=writing)
            raise
        if writing:
            self.write_succeeded()
        else:
            self._breaker.succeeded()
        return outcome

    def write_succeeded(self) -> None:
        """A write succeeded."""
        self._breaker.succeeded()
        if self._refuses_writes:
            self._refuses_writes = False
            self._report.end(ACCEPTS_WRITES)

    def failed(self, unavailable: RedisUnavailable, *, writing: bool = False) -> None:
        """An operation other than a look-up failed.

        It counts only if the whole server is at fault. A refused write does not mean that reads
        fail, and a large operation may be slow although Redis is not: a probe finds out.
        """
        fault = unavailable.fault
        if fault in _SERVER:
            self._count(unavailable)
        elif writing and fault in WRITES_ONLY:
            if not self._refuses_writes:
                self._refuses_writes = True
                self._report.begin(REFUSES_WRITES, fault, warn=True)
        else:
            self._doubt.set()

    def request_replay(self) -> None:
        """Redis has missed something: replay it soon."""
        self._work_to_do.set()

    def _require(self, work: Coroutine[Any, Any, Any]) -> None:
        """Discard `work` and raise StoreUnavailable while Redis is not in use."""
        if not self._breaker.closed:
            work.close()
            raise StoreUnavailable("redis is known to be unavailable")

    def _count(self, unavailable: RedisUnavailable) -> None:
        """Count one failure, however many callers share the operation.

        If this process was busy, the failure says nothing about Redis.
        """
        fault = unavailable.fault
        if fault is Fault.BUSY:
            self._doubt.set()
            return
        if unavailable.operation == self._last_failed:
            return
        self._last_failed = unavailable.operation
        if self._breaker.failed(self._monotonic(), self._jitter(), certain=fault in CERTAIN):
            self._degrade(fault)

    def _confirm(self, fault: Fault) -> None:
        """Redis was found unusable, again or for the first time: this may confirm an outage."""
        lasted = self._monotonic() - self._degraded_at
        self.confirmed |= fault is Fault.REFUSED or lasted >= _CONFIRMED_AFTER

    def _degrade(self, fault: Fault) -> None:
        self.degraded = True
        self._degraded_at = self._monotonic()
        self._confirm(fault)
        self._metrics.degraded = 1
        self._metrics.breaker_state = self._breaker.state
        self._work_to_do.set()
        self._note("degraded", str(fault))
        self._report.begin(NOT_AVAILABLE, fault)
        self._on_change()

    def _recover(self) -> None:
        self.degraded = self.confirmed = False
        self._metrics.degraded = 0
        self._note("shared", "")
        self._report.end(AVAILABLE)
        self._on_change()

    def _note(self, state: str, fault: str) -> None:
        self._metrics.transitions[state] += 1
        self.transitions.append({"at": round(self._clock(), 3), "to": state, "fault": fault})

    async def _check(self) -> None:
        """When Redis is in doubt, probe it until it answers or the breaker opens."""
        while True:
            await self._doubt.wait()
            await self._sleep(_CHECK_INTERVAL)
            if not self._breaker.closed or await self._answers():
                self._doubt.clear()

    async def _answers(self) -> bool:
        """Whether Redis answers a probe. A probe that fails counts."""
        try:
            await self._probe()
        except RedisUnavailable as unavailable:
            self._count(unavailable)
            return False
        except Exception:
            logger.exception("probing Redis failed")
        else:
            self._breaker.succeeded()
        return True

    async def _watch(self) -> None:
        while True:
            await self._work_to_do.wait()
            if self._breaker.closed:
                await self._sleep(_REPLAY_INTERVAL)
            else:
                await self._sleep(max(0.0, self._breaker.due - self._monotonic()))
            await self._attempt()

    async def _attempt(self) -> None:
        """Probe if a probe is due, then replay. Redis is in use only after both succeeded."""
        probing = self._breaker.probe(self._monotonic())
        if not probing and not self._breaker.closed:
            return  # woken too early
        self._metrics.breaker_state = self._breaker.state
        answered, well, replayed = False, False, False
        try:
            if probing:
                await self._probe()
                answered = True
            replayed = await self._replay()
            well = True
        except RedisUnavailable as unavailable:
            # Reads work, because the probe was one.
            well = answered and unavailable.fault in WRITES_ONLY
            if not probing or well:
                self.failed(unavailable, writing=True)
            elif not answered:
                self._confirm(unavailable.fault)
                self._report.repeat(unavailable.fault)
        except Exception:
            logger.exception("probing Redis failed")
        if probing:
            self._breaker.probed(self._monotonic(), self._jitter(), well=well)
            if well:
                self._recover()
        self._metrics.breaker_state = self._breaker.state
        if replayed and self._breaker.closed:
            self._work_to_do.clear()
