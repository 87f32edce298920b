"""Batches of look-ups."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from sidecar.sessions.redis.batches import LookupBatcher
from sidecar.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


class Source:
    """A fetch function: returns each key in capitals once `open` is set, or raises `fault`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.fault: Exception | None = None

    async def fetch(self, keys: Sequence[str], since: float) -> list[str]:
        """The keys in capitals."""
        self.asked.append(tuple(keys))
        await self.open.wait()
        if self.fault is not None:
            raise self.fault
        return [key.upper() for key in keys]


@pytest.fixture
def source() -> Source:
    """A source that answers at once."""
    return Source()


@pytest.fixture
async def batches(source: Source) -> AsyncIterator[LookupBatcher[str, str]]:
    """A batcher with two batches at a time, of up to four keys."""
    tasks = Tasks()
    made = LookupBatcher(source.fetch, tasks, parallel=2, size=4)
    yield made
    made.close()
    await tasks.close()


async def test_one_tick_is_one_batch(batches: LookupBatcher[str, str], source: Source) -> None:
    """Keys requested in one tick are fetched once each, in order."""
    asked = [batches.ask(key) for key in "aba"]
    assert await asyncio.gather(*asked) == ["A", "B", "A"]
    assert source.asked == [("a", "b")]
    assert repr(batches) == "<LookupBatcher 0 in flight, 0 keys waiting>"


async def test_a_key_in_flight_is_shared(batches: LookupBatcher[str, str], source: Source) -> None:
    """A second look-up of a key joins the first while that is in flight."""
    source.open.clear()
    first = batches.ask("a")
    await asyncio.sleep(0.01)
    second = batches.ask("a")
    source.open.set()
    assert list(await asyncio.gather(first, second)) == ["A", "A"]
    assert source.asked == [("a",)]


async def test_an_invalidated_key_is_fetched_again(
    batches: LookupBatcher[str, str], source: Source
) -> None:
    """A caller that asks after a change does not share a fetch from before it."""
    source.open.clear()
    first = batches.ask("a")
    await asyncio.sleep(0.01)
    batches.invalidate("a")
    second = batches.ask("a")
    source.open.set()
    assert list(await asyncio.gather(first, second)) == ["A", "A"]
    assert source.asked == [("a",), ("a",)]


async def test_further_keys_wait_for_a_free_batch(
    batches: LookupBatcher[str, str], source: Source
) -> None:
    """The number and size of batches are bounded. Waiting keys are fetched together."""
    source.open.clear()
    asked = []
    for tick in ("a", "b", "cd", "efghij"):
        asked += [batches.ask(key) for key in tick]
        await asyncio.sleep(0.005)
    assert source.asked == [("a",), ("b",)]
    source.open.set()
    assert await asyncio.gather(*asked) == list("ABCDEFGHIJ")
    assert source.asked[2:] == [tuple("cdef"), tuple("ghij")]


async def test_a_fault_reaches_every_caller(
    batches: LookupBatcher[str, str], source: Source
) -> None:
    """Every caller gets the exception. A later look-up fetches anew."""
    source.fault = ConnectionError("away")
    faults = await asyncio.gather(*(batches.ask(key) for key in "aab"), return_exceptions=True)
    assert [type(fault) for fault in faults] == [ConnectionError] * 3
    source.fault = None
    assert await batches.ask("a") == "A"


async def test_cancelled_callers_disturb_no_others(
    batches: LookupBatcher[str, str], source: Source
) -> None:
    """Cancelling one caller affects no other, whether the batch was sent or not."""
    source.open.clear()
    asked = [batches.ask("a") for _ in range(4)]
    asked[0].cancel()
    await asyncio.sleep(0.005)
    asked[1].cancel()
    source.open.set()
    assert await asyncio.gather(*asked[2:]) == ["A", "A"]
    assert source.asked == [("a",)]


async def test_close(source: Source) -> None:
    """Waiting callers are cancelled. A later look-up raises RuntimeError."""
    tasks = Tasks()
    batches = LookupBatcher(source.fetch, tasks, parallel=1)
    source.open.clear()
    first = batches.ask("a")
    await asyncio.sleep(0.005)
    second = batches.ask("b")
    batches.close()
    await tasks.close()
    assert first.cancelled()
    assert second.cancelled()
    with pytest.raises(RuntimeError, match="after close"):
        batches.ask("c")
