"""A process that simulates pods: `python -m bench.scale.worker SOCKET REALM REDIS_PORT`.

Carries out orders from the Unix socket one after another. Must not measure Redis.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from typing import TYPE_CHECKING

import msgspec
import uvloop

from bench.scale.orders import (
    Answer,
    Await,
    Count,
    Done,
    Failed,
    Move,
    Order,
    Read,
    Receipts,
    Serve,
    Start,
)
from bench.scale.pod import Pod, Server
from bench.scale.population import Known, PodCommands, known
from bench.scale.tally import Tally

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

LINE_LIMIT = 1 << 26
TICK_SECONDS = 0.005  # between two groups of requests
GIVE_UP_SECONDS = 120.0
AT_ONCE = 64  # pods that read at the same time, so that a big order needs little memory


class Worker:
    """The pods of one process."""

    def __init__(self, server: Server, commands: PodCommands, group: asyncio.TaskGroup) -> None:
        self._server = server
        self._commands = commands
        self._group = group  # a pod that fails ends the process, and its log says why
        self._tally = Tally()
        self._pods: list[Pod] = []
        self._running: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        return f"<Worker of {len(self._pods)} pods>"

    async def obey(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry out orders until the other side closes the connection."""
        decode = msgspec.json.Decoder(Order).decode
        while line := await reader.readline():
            async for answer in self._carry_out(decode(line)):
                writer.write(msgspec.json.encode(answer) + b"\n")
                await writer.drain()
        await self._stop()

    async def _carry_out(self, order: Order) -> AsyncIterator[Answer]:
        answer: Answer
        try:
            if isinstance(order, Await):
                watched = self._watch(order)
                yield self._done()
                async with asyncio.timeout(GIVE_UP_SECONDS):
                    answer = Receipts(await asyncio.gather(*watched))
            else:
                async with asyncio.timeout(GIVE_UP_SECONDS):
                    await self._do(order)
                answer = self._done()
        except TimeoutError:
            answer = Failed(f"{order} was not carried out within {GIVE_UP_SECONDS:g} s: {self!r}")
        yield answer

    async def _do(self, order: Order) -> None:
        match order:
            case Start():
                await self._start(order)
            case Read():
                await self._read(order)
            case Serve():
                self._running.append(self._group.create_task(self._serve(order)))
            case Move():
                self._server.port = order.port
            case Count():
                pass

    def _done(self) -> Done:
        """The tally since the last answer."""
        found, self._tally = self._tally, Tally()
        for pod in self._pods:
            pod.tally = self._tally
        return Done(found)

    async def _start(self, order: Start) -> None:
        spawn = self._group.create_task
        new = [Pod(self._server, self._commands, self._tally, spawn) for _ in range(order.pods)]
        self._pods += new
        self._running += [spawn(pod.run()) for pod in new]
        sessions = [known(number) for number in range(order.reads)]

        async def read(pod: Pod) -> None:
            await pod.ready()
            if sessions:
                await pod.look_up(sessions)
                await pod.settled()

        reading = [spawn(read(pod)) for pod in new]
        self._running += reading
        if order.wait and reading:
            await asyncio.wait(reading)

    async def _stop(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._running, self._pods = [], []

    async def _read(self, order: Read) -> None:
        limit = asyncio.Semaphore(AT_ONCE)

        async def read(pod: Pod) -> None:
            async with limit:
                for batch in batches(sessions_of(order), order.batch):
                    await pod.look_up(batch, seen=order.seen)
                await pod.settled()

        await asyncio.gather(*(read(pod) for pod in self._pods[: order.pods]))

    async def _serve(self, order: Serve) -> None:
        """Let requests arrive, in groups of those that arrive within one tick."""
        sessions = [known(number) for number in range(order.sessions)]
        began = time.monotonic()
        sent = 0
        while (elapsed := time.monotonic() - began) < order.seconds:
            due = int(elapsed * order.rate * len(self._pods)) - sent
            sent += due
            arrived: dict[Pod, list[Known]] = {}
            for _ in range(due):
                pod, one = random.choice(self._pods), random.choice(sessions)
                arrived.setdefault(pod, []).append(one)
            for pod, wanted in arrived.items():
                pod.request(wanted)
            await asyncio.sleep(TICK_SECONDS)

    def _watch(self, order: Await) -> list[asyncio.Future[float]]:
        """For each of the watching pods, when it will have received the invalidation."""
        return [pod.receipt_of(order.token) for pod in self._pods[: order.pods]]


def sessions_of(order: Read) -> Iterator[Known]:
    """The sessions that an order names."""
    yield from (Known(*each) for each in order.sessions)
    yield from map(known, range(order.first, order.end))


def batches(sessions: Iterator[Known], size: int) -> Iterator[list[Known]]:
    """These sessions in groups of at most `size`."""
    batch: list[Known] = []
    for each in sessions:
        batch.append(each)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


async def main(path: str, realm: str, port: int) -> None:
    """Connect to the measuring process, and obey."""
    reader, writer = await asyncio.open_unix_connection(path, limit=LINE_LIMIT)
    async with asyncio.TaskGroup() as group:
        await Worker(Server(port), PodCommands(realm), group).obey(reader, writer)
    writer.close()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
