"""The fair queue: who is next, who finds no room, and who leaves."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import pytest

from sidecar.api.turns import FairQueue, Place, Turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Crowd:
    """Requests in a queue with one slot, which the crowd itself takes at first."""

    def __init__(self, room: int) -> None:
        self.queue = FairQueue(1, room)
        self.served: list[str] = []
        self.now = Place(b"first")  # has the slot
        self.tasks: dict[str, asyncio.Task[Turn]] = {}

    async def begin(self) -> None:
        """Take the only slot."""
        assert await self.queue.wait(self.now) is Turn.READY

    async def come(self, name: str, place: Place) -> None:
        """A request comes, and waits or is turned away."""

        async def wait() -> Turn:
            turn = await self.queue.wait(place)
            if turn is Turn.READY:
                self.served.append(name)
                self.now = place
            return turn

        self.tasks[name] = asyncio.create_task(wait())
        await self.rest()

    async def turn(self, name: str) -> Turn:
        """How a request's waiting ended."""
        return await asyncio.wait_for(self.tasks[name], 5)

    async def serve(self) -> list[str]:
        """Let everybody have their turn, one after the other; the names in that order."""
        while "0 of" not in repr(self.queue):
            self.queue.release(self.now)
            await self.rest()
        return self.served

    async def rest(self) -> None:
        """Let all tasks run until they wait."""
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
async def crowd() -> AsyncIterator[Crowd]:
    """A crowd before a queue with room for eight."""
    made = Crowd(8)
    await made.begin()
    yield made
    for task in made.tasks.values():
        task.cancel()
    await asyncio.gather(*made.tasks.values(), return_exceptions=True)


async def test_equal_flows_take_turns(crowd: Crowd) -> None:
    """A flow with many requests waits behind itself, not before others."""
    for number in range(4):
        await crowd.come(f"a{number}", Place(b"a"))
    for number in range(2):
        await crowd.come(f"b{number}", Place(b"b"))
    assert await crowd.serve() == ["a0", "b0", "a1", "b1", "a2", "a3"]


async def test_a_costly_flow_comes_later(crowd: Crowd) -> None:
    """A flow that costs three times as much gets a third."""
    for number in range(3):
        await crowd.come(f"a{number}", Place(b"a", cost=3.0))
    for number in range(4):
        await crowd.come(f"b{number}", Place(b"b"))
    assert await crowd.serve() == ["b0", "b1", "a0", "b2", "b3", "a1", "a2"]


async def test_many_flows_of_a_group(crowd: Crowd) -> None:
    """A group gets no more by having more flows; one without a group pays only for itself."""
    for number in range(4):
        await crowd.come(f"a{number}", Place(b"a%d" % number, "a"))
    await crowd.come("b", Place(b"b", "b"))
    await crowd.come("own", Place(b"own", cost=0.5))
    assert await crowd.serve() == ["own", "a0", "b", "a1", "a2", "a3"]


async def test_a_late_flow_does_not_catch_up(crowd: Crowd) -> None:
    """A flow has no claim on the time before it came."""
    for number in range(3):
        await crowd.come(f"a{number}", Place(b"a"))
    crowd.queue.release(crowd.now)
    await crowd.rest()
    crowd.queue.release(crowd.now)
    await crowd.rest()
    for number in range(2):
        await crowd.come(f"b{number}", Place(b"b"))
    assert await crowd.serve() == ["a0", "a1", "a2", "b0", "b1"]


async def test_forty_requests_of_one_flow_do_not_cost_another_its_turn(crowd: Crowd) -> None:
    """Of a full queue the last one leaves, and the newcomer is next but one at most."""
    for number in range(40):
        await crowd.come(f"a{number}", Place(b"a", "a"))
    await crowd.come("b", Place(b"b", "b"))
    assert await crowd.turn("a7") is Turn.BUSY
    assert await crowd.turn("a39") is Turn.BUSY
    assert (await crowd.serve())[:3] == ["a0", "b", "a1"]
    assert len(crowd.served) == 8


async def test_no_room_for_an_equal(crowd: Crowd) -> None:
    """A newcomer that would be last is turned away itself."""
    for number in range(8):
        await crowd.come(f"a{number}", Place(b"a%d" % number))
    await crowd.come("b", Place(b"b"))
    assert await crowd.turn("b") is Turn.BUSY
    assert len(await crowd.serve()) == 8


async def test_who_has_disconnected_has_no_turn(crowd: Crowd) -> None:
    """A client that is gone is skipped, and leaves its room to others."""
    gone: set[str] = set()
    for number in range(8):
        name = f"a{number}"
        await crowd.come(name, Place(b"a%d" % number, is_gone=partial(gone.__contains__, name)))
    gone |= {"a0", "a5"}
    crowd.queue.release(crowd.now)
    await crowd.rest()
    assert await crowd.turn("a0") is Turn.GONE
    await crowd.come("b", Place(b"b", cost=50.0))
    await crowd.come("c", Place(b"c", cost=50.0))
    assert not crowd.tasks["a5"].done()
    await crowd.come("d", Place(b"d", cost=50.0))
    assert await crowd.turn("a5") is Turn.GONE
    assert await crowd.serve() == ["a1", "a2", "a3", "a4", "a6", "a7", "b", "c", "d"]


async def test_who_is_cancelled_leaves(crowd: Crowd) -> None:
    """A cancelled request leaves the queue, and one that is cancelled at its turn ends it."""
    for name in ("a", "b", "c"):
        await crowd.come(name, Place(name.encode()))
    crowd.tasks["b"].cancel()
    await crowd.rest()
    crowd.queue.release(crowd.now)  # `a` has its turn, but is cancelled before it can notice
    crowd.tasks["a"].cancel()
    await crowd.rest()
    assert await crowd.serve() == ["c"]
    assert repr(crowd.queue) == "<FairQueue 0 of 1 work, 0 wait>"


async def test_a_slot_is_kept_from_the_costly() -> None:
    """Of several slots, costly requests use all but one, and others all."""
    queue, costly, cheap = FairQueue(2, 8), Place(b"a", cost=2.0), Place(b"b")
    assert await queue.wait(costly) is Turn.READY
    second = asyncio.create_task(queue.wait(costly))
    assert await queue.wait(cheap) is Turn.READY
    third = asyncio.create_task(queue.wait(cheap))
    await asyncio.sleep(0)
    queue.release(cheap)
    assert await third is Turn.READY
    queue.release(cheap)
    await asyncio.sleep(0)
    assert not second.done()
    queue.release(costly)
    assert await second is Turn.READY
    assert repr(queue) == "<FairQueue 1 of 2 work, 0 wait>"


async def test_the_first_urgent_request_of_a_flow(crowd: Crowd) -> None:
    """It comes before all that wait, even if the queue is full; a second one takes turns."""
    for number in range(8):
        await crowd.come(f"a{number}", Place(b"a%d" % number))
    await crowd.come("b0", Place(b"b", cost=0.5))
    await crowd.come("b1", Place(b"b", cost=0.5))
    assert await crowd.turn("a7") is Turn.BUSY
    assert await crowd.turn("b1") is Turn.BUSY
    crowd.queue.release(crowd.now)
    await crowd.rest()
    assert crowd.served == ["b0"]
    await crowd.come("b2", Place(b"b", cost=0.5))
    assert (await crowd.serve())[:2] == ["b0", "a0"]


async def test_nobody_waits_for_ever() -> None:
    """A request that has no turn in time is turned away, and leaves the queue."""
    queue, place = FairQueue(1, 8, patience=0.0), Place(b"a")
    assert await queue.wait(place) is Turn.READY
    assert await queue.wait(place) is Turn.BUSY
    assert repr(queue) == "<FairQueue 1 of 1 work, 0 wait>"
