"""A tiered store on a fake Redis that can be disconnected, with clocks that the test turns."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from fakeredis import FakeAsyncRedis, FakeServer

from sidecar.errors import StoreUnavailable
from sidecar.sessions.redis.store import RedisStore
from sidecar.sessions.tiered.breaker import Breaker
from sidecar.sessions.tiered.store import TieredStore
from sidecar.telemetry.metrics import Metrics
from tests.peers.clock import Clock
from tests.peers.patience import until
from tests.peers.signed import MAC
from tests.sessions.contract import Subject

if TYPE_CHECKING:
    from types import TracebackType

    from sidecar.auth.session import Session
    from sidecar.sessions.revocation.journal import Journal

MAX_STALE = 3600.0
THRESHOLD = 3


@dataclass
class Tier:
    """One pod: its store, on a Redis that it shares with other pods on the same `server`."""

    clock: Clock = field(default_factory=Clock)
    server: Any = field(default_factory=FakeServer)
    metrics: Metrics = field(default_factory=Metrics)
    remote_class: type[RedisStore] = RedisStore
    migrate: bool = False
    journal: Journal | None = None

    def __post_init__(self) -> None:
        remote = self.remote_class(
            FakeAsyncRedis(server=self.server), self.metrics, MAC, clock=self.clock, timeout=1.0
        )
        self.remote = remote
        self.store = TieredStore(
            remote,
            Breaker(threshold=THRESHOLD, interval=1.0, longest=64.0),
            self.metrics,
            max_stale=MAX_STALE,
            clock=self.clock,
            monotonic=self.clock,
            sleep=self.clock.sleep,
            jitter=lambda: 0.0,
            journal=self.journal,
            migrate=self.migrate,
        )
        self.subject = Subject(self.store, self.clock, self.clock.turn)

    async def __aenter__(self) -> Self:
        await self.store.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.store.close()

    async def look(self, token_id: str) -> Session | None:
        """Look a token up like a request."""
        return await self.subject.found(token_id)

    async def lose_redis(self) -> None:
        """Disconnect Redis, and let the store notice."""
        self.server.connected = False
        for number in range(THRESHOLD):
            with suppress(StoreUnavailable):
                await self.store.get(f"unknown{number}")
        assert self.store.degraded

    async def find_redis(self) -> None:
        """Reconnect Redis, and let the store notice."""
        self.server.connected = True
        await self.clock.turn(100.0)
        await until(lambda: not self.store.degraded)
