"""A simulated pod: the connections, the near cache and the schedule of a sidecar, without requests.

Behaves as `sidecar.sessions` does where Redis can tell the difference: one connection on which it
looks up and learns of changes, and one for the rest; look-ups that are joined; pings every half
second; a last-seen time per login and five minutes; an epoch that ends with its connection; and the
sidecar's own circuit breaker. It has no deadlines, because a process that simulates hundreds of
pods is late itself: the tally counts what would have been too late.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from bench.scale.connection import Connection, LostError, connect, nothing_pushed
from bench.scale.tally import SILENCE
from sidecar.sessions.tiered.breaker import Breaker

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from bench.scale.population import Known, PodCommands
    from bench.scale.tally import Tally

    Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]

PING_SECONDS = 0.5
PARALLEL = 7  # look-ups at once; one of eight slots is left to logins
BATCH = 256
SEEN_BATCH, SEEN_SECONDS = 100, 300.0
SHORTEST_DELAY, LONGEST_DELAY = 0.25, 5.0


class Server:
    """Where Redis is; after a failover, somewhere else."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __repr__(self) -> str:
        return f"<Server {self.port}>"


class Pod:
    """One pod. `run` it; `look_up` may be called at any time. `spawn` begins background tasks."""

    def __init__(self, server: Server, commands: PodCommands, tally: Tally, spawn: Spawn) -> None:
        self._server = server
        self._commands = commands
        self.tally = tally
        self.cached: set[str] = set()
        self._receipts: dict[str, asyncio.Future[float]] = {}  # of invalidations that are awaited
        self._breaker = Breaker()
        self._store: Connection | None = None
        self._store_lock = asyncio.Lock()
        self._reader: Connection | None = None  # the connection of the epoch
        self._ended = asyncio.Event()  # the epoch has ended, or none has begun
        self._ended.set()
        self._ready = asyncio.Event()
        self._slots = asyncio.Semaphore(PARALLEL)
        self._pending: dict[object, set[str]] = {}  # what changed during each look-up
        self._written: dict[str, float] = {}
        self._unseen: list[str] = []
        self._written_all = asyncio.Event()
        self._written_all.set()
        self._spawn = spawn

    def __repr__(self) -> str:
        return f"<Pod {self._breaker!r}, {len(self._pending)} look-ups, {len(self.cached)} cached>"

    @property
    def tracking(self) -> bool:
        """Whether Redis reports changes."""
        return not self._ended.is_set()

    async def ready(self) -> None:
        """Return once an epoch has begun."""
        await self._ready.wait()

    def receipt_of(self, token: str) -> asyncio.Future[float]:
        """When this pod will have been told that this session has changed."""
        receipt = self._receipts[token] = asyncio.get_running_loop().create_future()
        return receipt

    async def settled(self) -> None:
        """Return once all last-seen times are written."""
        await self._written_all.wait()

    async def run(self) -> None:
        """Probe Redis as at a start, then track it, one epoch after another, until cancelled."""
        delay = SHORTEST_DELAY
        try:
            await self._probe()
            while True:
                if not self._breaker.closed:
                    await self._recover()
                began = time.monotonic()
                await self._run_epoch()
                if time.monotonic() > began + LONGEST_DELAY:
                    delay = SHORTEST_DELAY
                await asyncio.sleep(delay * (1 + random.random()) / 2)
                delay = min(2 * delay, LONGEST_DELAY)
        finally:
            self._end_epoch()
            if self._store is not None:
                self._store.close()

    def wanted(self, sessions: Sequence[Known]) -> list[Known]:
        """Those of these requested sessions that must be looked up."""
        if not self._breaker.closed:
            self.tally.local += len(sessions)
            return []
        if not self.tracking:
            return list(sessions)
        missing = [each for each in sessions if each.token not in self.cached]
        self.tally.hits += len(sessions) - len(missing)
        return missing

    def request(self, sessions: Sequence[Known]) -> None:
        """Let requests with these sessions arrive in one tick of the loop."""
        if missing := self.wanted(sessions):
            self._spawn(self.look_up(missing))

    async def look_up(self, sessions: Sequence[Known], *, seen: bool = True) -> None:
        """Read these sessions, and record that they were seen."""
        began = time.monotonic()
        batches = [sessions[at : at + BATCH] for at in range(0, len(sessions), BATCH)]
        await asyncio.gather(*(self._read(batch, began, seen=seen) for batch in batches))

    async def _read(self, batch: Sequence[Known], began: float, *, seen: bool) -> None:
        tokens = [each.token for each in batch]
        asked = self._commands.look_up(tokens)
        async with self._slots:
            lookup = object()
            changed = self._pending[lookup] = set()
            try:
                values, reader = await self._read_values(asked)
            except LostError:
                self._failed()
                return
            finally:
                del self._pending[lookup]
        self._breaker.succeeded()
        self.tally.count_reads(len(batch), began)
        found = [each for each, value in zip(batch, values, strict=True) if value is not None]
        if reader is None:
            self.tally.untracked += len(batch)
        elif reader is self._reader:
            self.cached.update(each.token for each in found if each.token not in changed)
        if seen:
            self._mark_seen(found)

    async def _read_values(self, asked: bytes) -> tuple[list[Any], Connection | None]:
        """The values, and the connection that reports their changes, if one does."""
        if (reader := self._reader) is not None and self.tracking:
            with suppress(LostError):
                (values,) = await reader.call(asked)
                return values, reader
        (values,) = await self._call_store(asked)
        return values, None

    def _failed(self) -> None:
        """A look-up found nobody: use this pod's memory until a probe succeeds."""
        self.tally.refused += 1
        if self._breaker.failed(time.monotonic(), random.random(), certain=True):
            self._end_epoch()

    async def _recover(self) -> None:
        """Probe Redis by the breaker's schedule until it answers."""
        while not self._breaker.closed:
            await asyncio.sleep(max(0.0, self._breaker.due - time.monotonic()))
            if self._breaker.probe(time.monotonic()):
                well = await self._probe()
                self._breaker.probed(time.monotonic(), random.random(), well=well)

    async def _probe(self) -> bool:
        try:
            await self._call_store(self._commands.probe)
        except LostError:
            self._breaker.failed(time.monotonic(), random.random(), certain=True)
            return False
        return True

    async def _call_store(self, commands: bytes, replies: int = 1) -> list[Any]:
        """Use the connection that is not tracked."""
        async with self._store_lock:
            if self._store is None or not self._store.alive:
                port = self._server.port
                self._store = await connect(port, nothing_pushed, lambda: None)
        return await self._store.call(commands, replies)

    async def _run_epoch(self) -> None:
        """Track Redis until the connection is lost, or not at all if there is none."""
        try:
            await self._open_epoch()
        except LostError:
            self._end_epoch()
            return
        self._ready.set()
        self.tally.ready.append(time.monotonic())
        pinging = self._spawn(self._ping())
        try:
            await self._ended.wait()
        finally:
            pinging.cancel()
        self.tally.lost += 1

    async def _open_epoch(self) -> None:
        """Connect, and have Redis track what is read."""
        # `_end_epoch` may be called once more for a connection that it has closed, but at once, and
        # so before the delay to the next epoch has passed.
        reader = await connect(self._server.port, self._on_push, self._end_epoch)
        self._reader = reader
        await reader.call(self._commands.track, 2)
        if not reader.alive:
            raise LostError("the connection was lost at once")
        self._ended.clear()

    async def _ping(self) -> None:
        """Ping the connection of the epoch."""
        try:
            while self._reader is not None:
                began = time.monotonic()
                await self._reader.call(self._commands.ping)
                took = time.monotonic() - began
                self.tally.silent += took > SILENCE
                await asyncio.sleep(max(0.0, PING_SECONDS - took))
        except LostError:
            self._end_epoch()

    def _on_push(self, message: object) -> bool:
        pushed = self._commands.pushed(message)
        if pushed is None:
            return False
        if pushed.tokens is None:
            self.cached.clear()
            return True
        self.tally.invalidated += len(pushed.tokens)
        for changed in self._pending.values():
            changed.update(pushed.tokens)
        self.cached.difference_update(pushed.tokens)
        for token in pushed.tokens:
            if (receipt := self._receipts.pop(token, None)) is not None:
                receipt.set_result(time.monotonic())
        return True

    def _end_epoch(self) -> None:
        """End the epoch: nothing that is cached is certain."""
        self._ended.set()
        self._ready.clear()
        self.cached.clear()
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _mark_seen(self, found: Sequence[Known]) -> None:
        now = time.monotonic()
        due = [each.sid for each in found if now - self._written.get(each.sid, 0.0) > SEEN_SECONDS]
        self._written |= dict.fromkeys(due, now)
        self._unseen += due
        if self._unseen and self._written_all.is_set():
            self._written_all.clear()
            self._spawn(self._write_seen())

    async def _write_seen(self) -> None:
        try:
            while self._unseen:
                sids, self._unseen = self._unseen[:SEEN_BATCH], self._unseen[SEEN_BATCH:]
                await self._call_store(self._commands.mark_seen(sids, time.time()), len(sids))
                self.tally.seen += len(sids)
        except LostError:
            self._failed()
        finally:
            self._written_all.set()
