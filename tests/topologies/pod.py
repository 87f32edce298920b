"""A tiered store as in a sidecar, on the machine's clock and any kind of Redis."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Self

from sidecar.sessions.redis.connect import RedisConfig, connect, tracked
from sidecar.sessions.redis.store import RedisStore
from sidecar.sessions.tiered.breaker import Breaker
from sidecar.sessions.tiered.store import TieredStore
from sidecar.telemetry.metrics import Metrics
from tests.peers.patience import until
from tests.peers.signed import MAC
from tests.sessions.contract import new_login

if TYPE_CHECKING:
    from types import TracebackType

    from sidecar.auth.session import Grant

PATIENT = 2.0  # seconds; these tests are not about deadlines
SOON = 20.0  # seconds, at most, on a busy machine


class Pod:
    """A client and its tiered store. `async with` starts and closes it."""

    def __init__(self, **where: Any) -> None:
        config = RedisConfig(timeout=PATIENT, **where)
        self.client = connect(config)
        self.remote = RedisStore(self.client, Metrics(), MAC, timeout=PATIENT)
        self.store = TieredStore(self.remote, Breaker(), Metrics(), connect=tracked(config))

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

    async def coherent(self) -> None:
        """Wait until the near cache is coherent."""
        await until(lambda: self.store.near.coherent, SOON)

    async def login(self) -> Grant:
        """Write a new login."""
        grant = new_login(time.time())
        assert await self.store.write(grant)
        return grant

    async def works(self, *, near: bool = True) -> None:
        """Log in, look up and log out, using Redis. With `near`, the near cache must answer."""
        if near:
            await self.coherent()
        grant = await self.login()
        assert await self.store.get(grant.session.id) == grant.session
        assert self.store.peek(grant.session.id) == (grant.session if near else None)
        assert await self.store.revoke_session(grant.session.sid)
        assert await self.store.get(grant.session.id) is None
        assert not self.store.degraded

    async def warm(self, *grants: Grant) -> None:
        """Look these logins up: they are then certain."""
        for grant in grants:
            assert await self.store.get(grant.session.id) == grant.session
            assert self.store.peek(grant.session.id) == grant.session

    async def tracking_ids(self) -> list[int]:
        """The ids of the connections on which Redis reports changes to this pod."""
        assert self.store.tracking is not None
        found = []
        for connection in self.store.tracking.connections:
            found += await connection.ask(("CLIENT", "ID"))
        return found

    async def heard(self) -> None:
        """Wait until everything has arrived that Redis reported before this call.

        Reports come on the connections of look-ups, in order: before the answer to a later command.
        A connection that is lost ends the epoch, after which nothing is certain.
        """
        assert self.store.tracking is not None
        asked = (each.ask(("PING",)) for each in self.store.tracking.connections)
        await asyncio.gather(*asked, return_exceptions=True)
