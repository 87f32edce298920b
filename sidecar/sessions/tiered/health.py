"""Keeps an eye on Redis: when it counts as away, and when it is back. Says so once per change.

Owns the breaker's clockwork and the task that probes, so that no request has to. What must be made
good before Redis is trusted again is given; knows nothing of sessions.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol

from sidecar.sessions.redis.faults import CERTAIN, WRITES_ONLY, Fault, RedisUnavailable
from sidecar.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sidecar.sessions.tiered.breaker import Breaker

NOT_AVAILABLE: Final = "Redis not available, using in-memory session cache"
AVAILABLE: Final = "Redis available again, using the shared session cache"
REFUSES_WRITES: Final = "Redis refuses writes, keeping new sessions in memory"
TAKES_WRITES: Final = "Redis takes writes again"

_TRANSITIONS_KEPT: Final = 32
_REPLAY_EVERY: Final = 1.0  # seconds, while Redis is in use but something is to be made good

logger = logging.getLogger("sidecar.sessions")


class StateMetrics(Protocol):
    """Where the state is shown."""

    degraded: int
    breaker_state: str
    transitions: dict[str, int]


class StoreMetrics(StateMetrics, Protocol):
    """Where look-ups are counted, by (source, result), and the state is shown."""

    lookups: dict[tuple[str, str], int]


class RedisHealth:
    """Tell it how each use of Redis went; ask it whether to use Redis.

    `probe` asks Redis anything, `replay` makes good what it missed and says whether that was all;
    both raise RedisUnavailable; `changed` is called when `degraded` has. `clock` gives
    seconds since the epoch; `monotonic` and `sleep` are in seconds, `jitter` gives numbers in
    [0, 1).
    """

    def __init__(
        self,
        breaker: Breaker,
        metrics: StateMetrics,
        probe: Callable[[], Awaitable[None]],
        replay: Callable[[], Awaitable[bool]],
        changed: Callable[[], None],
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.degraded = False
        self.transitions: deque[dict[str, Any]] = deque(maxlen=_TRANSITIONS_KEPT)  # newest last
        self._clock = clock
        self._breaker = breaker
        self._metrics = metrics
        self._probe = probe
        self._replay = replay
        self._changed = changed
        self._monotonic = monotonic
        self._sleep = sleep
        self._jitter = jitter
        self._refuses_writes = False
        self._last_failed = 0  # the operation counted last: those who waited for it share a failure
        self._trouble = asyncio.Event()
        self._tasks = Tasks()

    def __repr__(self) -> str:
        return f"<RedisHealth {self._breaker!r}>"

    async def start(self) -> None:
        """See if Redis is there, and watch it from here on. That it is absent is no error."""
        try:
            await self._probe()
            await self._replay()
        except RedisUnavailable as unavailable:
            if unavailable.fault in WRITES_ONLY:
                self.failed(unavailable, writing=True)
                self._trouble.set()
            elif self._breaker.failed(self._monotonic(), self._jitter(), certain=True):
                self._away(unavailable.fault)
        self._tasks.spawn(self._watch(), "redis watch")

    async def close(self) -> None:
        """End the watch."""
        await self._tasks.close()

    def succeeded(self) -> None:
        """A read went well."""
        self._breaker.succeeded()

    def written(self) -> None:
        """A write went well."""
        self._breaker.succeeded()
        if self._refuses_writes:
            self._refuses_writes = False
            logger.info(TAKES_WRITES)

    def failed(self, unavailable: RedisUnavailable, *, writing: bool = False) -> None:
        """A use failed. A refused write says nothing of reads, a busy pool nothing of Redis."""
        fault = unavailable.fault
        if writing and fault in WRITES_ONLY:
            if not self._refuses_writes:
                self._refuses_writes = True
                logger.warning(REFUSES_WRITES, extra={"fault": str(fault)})
            return
        if fault is Fault.BUSY or unavailable.operation == self._last_failed:
            return
        self._last_failed = unavailable.operation
        if self._breaker.failed(self._monotonic(), self._jitter(), certain=fault in CERTAIN):
            self._away(fault)

    def request_replay(self) -> None:
        """There is something to mend."""
        self._trouble.set()

    def _away(self, fault: Fault) -> None:
        self.degraded = True
        self._metrics.degraded = 1
        self._metrics.breaker_state = self._breaker.state
        self._trouble.set()
        self._note("degraded", str(fault))
        logger.info(NOT_AVAILABLE, extra={"fault": str(fault)})
        self._changed()

    def _back(self) -> None:
        self.degraded = False
        self._metrics.degraded = 0
        self._note("shared", "")
        logger.info(AVAILABLE)
        self._changed()

    def _note(self, state: str, fault: str) -> None:
        self._metrics.transitions[state] += 1
        self.transitions.append({"at": round(self._clock(), 3), "to": state, "fault": fault})

    async def _watch(self) -> None:
        while True:
            await self._trouble.wait()
            if self._breaker.closed:
                await self._sleep(_REPLAY_EVERY)
            else:
                await self._sleep(max(0.0, self._breaker.due - self._monotonic()))
            await self._attempt()

    async def _attempt(self) -> None:
        """Probe if that is due, then mend: what Redis missed counts before what it says."""
        probing = self._breaker.probe(self._monotonic())
        if not probing and not self._breaker.closed:
            return  # woken too early
        self._metrics.breaker_state = self._breaker.state
        well, replayed = False, False
        try:
            if probing:
                await self._probe()
            replayed = await self._replay()
            well = True
        except RedisUnavailable as unavailable:
            # Reads went well: the probe was one.
            well = probing and unavailable.fault in WRITES_ONLY
            if not probing or well:
                self.failed(unavailable, writing=True)
        except Exception:
            logger.exception("probing Redis failed")
        if probing:
            self._breaker.probed(self._monotonic(), self._jitter(), well=well)
            if well:
                self._back()
        self._metrics.breaker_state = self._breaker.state
        if replayed and self._breaker.closed:
            self._trouble.clear()
