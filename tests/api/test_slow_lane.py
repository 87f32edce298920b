"""The slow lane: a few places for each user, and the address that failed least keeps one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from sidecar.api.slow_lane import SlowLane

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    Enter = Callable[[bytes, float], asyncio.Task[bool]]


@pytest.fixture
async def tasks() -> AsyncIterator[list[asyncio.Task[bool]]]:
    """The logins that wait; cancelled at the end."""
    made: list[asyncio.Task[bool]] = []
    yield made
    for task in made:
        task.cancel()
    await asyncio.gather(*made, return_exceptions=True)


async def enter(
    lane: SlowLane, tasks: list[asyncio.Task[bool]], user: bytes, attempts: float
) -> asyncio.Task[bool]:
    """Enter the lane, and wait until the place is taken or refused."""
    task = asyncio.create_task(lane.wait(user, attempts))
    tasks.append(task)
    for _ in range(5):
        await asyncio.sleep(0)
    return task


async def test_after_the_pause_it_passes() -> None:
    """A login that keeps its place passes, and leaves the place to others."""
    lane = SlowLane(pause=0.0, places=1)
    assert await lane.wait(b"a", 5.0)
    assert await lane.wait(b"a", 5.0)
    assert repr(lane) == "<SlowLane 0 of 16>"


async def test_the_address_that_failed_most_leaves(tasks: list[asyncio.Task[bool]]) -> None:
    """A new address takes a place from one that has failed; an equal one does not."""
    lane = SlowLane(pause=600.0, places=2)
    few = await enter(lane, tasks, b"a", 1.0)
    many = await enter(lane, tasks, b"a", 7.0)
    new = await enter(lane, tasks, b"a", 0.0)
    assert (many.done(), await many) == (True, False)
    assert not await lane.wait(b"a", 1.0)
    assert not few.done()
    assert not new.done()
    other = await enter(lane, tasks, b"b", 9.0)
    assert not other.done()


async def test_the_places_of_all_users(tasks: list[asyncio.Task[bool]]) -> None:
    """There is a limit for all users together, with the same rule."""
    lane = SlowLane(pause=600.0, places=2, total=3)
    first = [await enter(lane, tasks, user, 2.0) for user in (b"a", b"b", b"c")]
    assert not await lane.wait(b"d", 2.0)
    new = await enter(lane, tasks, b"d", 1.0)
    assert [task.done() for task in [*first, new]].count(True) == 1
    assert repr(lane) == "<SlowLane 3 of 3>"


async def test_who_is_cancelled_leaves(tasks: list[asyncio.Task[bool]]) -> None:
    """A cancelled login leaves its place."""
    lane = SlowLane(pause=600.0, places=1)
    task = await enter(lane, tasks, b"a", 2.0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not (await enter(lane, tasks, b"a", 2.0)).done()
