"""Look-ups that share their way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from sidecar.sessions.redis.batches import LookupBatcher
from sidecar.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


class Source:
    """What is fetched from: answers with the key in capitals once it is let go."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.fault: Exception | None = None

    async def fetch(self, keys: Sequence[str], since: float) -> list[str]:
        """The values."""
        self.asked.append(tuple(keys))
        await self.open.wait()
        if self.fault is not None:
            raise self.fault
        return [key.upper() for key in keys]


@pytest.fixture
def source() -> Source:
    """A source."""
    return Source()


@pytest.fixture
async def batches(source: Source) -> AsyncIterator[LookupBatcher[str, str]]:
    """Two batches at a time, of four keys."""
    tasks = Tasks()
    made = LookupBatcher(source.fetch, tasks, parallel=2, size=4)
    yield made
    made.close()
    await tasks.close()


async def test_one_tick_is_one_batch(batches: LookupBatcher[str, str], source: Source) -> None:
    """Each key once, in the order asked for."""
    asked = [batches.ask(key) for key in "aba"]
    assert await asyncio.gather(*asked) == ["A", "B", "A"]
    assert source.asked == [("a", "b")]
    assert repr(batches) == "<LookupBatcher 0 in flight, 0 keys waiting>"


async def test_a_key_under_way_is_joined(batches: LookupBatcher[str, str], source: Source) -> None:
    """However long it takes, one key is asked for once at a time."""
    source.open.clear()
    first = batches.ask("a")
    await asyncio.sleep(0.01)
    second = batches.ask("a")
    source.open.set()
    assert list(await asyncio.gather(first, second)) == ["A", "A"]
    assert source.asked == [("a",)]


async def test_a_forgotten_key_is_asked_for_again(
    batches: LookupBatcher[str, str], source: Source
) -> None:
    """An answer that was sent for before a change is not given to who asks after it."""
    source.open.clear()
    first = batches.ask("a")
    await asyncio.sleep(0.01)
    batches.invalidate("a")
    second = batches.ask("a")
    source.open.set()
    assert list(await asyncio.gather(first, second)) == ["A", "A"]
    assert source.asked == [("a",), ("a",)]


async def test_when_all_are_under_way_the_rest_gathers(
    batches: LookupBatcher[str, str], source: Source
) -> None:
    """Bounded in number and size; what waits goes out together."""
    source.open.clear()
    asked = []
    for tick in ("a", "b", "cd", "efghij"):
        asked += [batches.ask(key) for key in tick]
        await asyncio.sleep(0.005)
    assert source.asked == [("a",), ("b",)]
    source.open.set()
    assert await asyncio.gather(*asked) == list("ABCDEFGHIJ")
    assert source.asked[2:] == [tuple("cdef"), tuple("ghij")]


async def test_a_fault_is_everyones(batches: LookupBatcher[str, str], source: Source) -> None:
    """All who asked are told; those who ask later are asked for anew."""
    source.fault = ConnectionError("away")
    told = await asyncio.gather(*(batches.ask(key) for key in "aab"), return_exceptions=True)
    assert [type(fault) for fault in told] == [ConnectionError] * 3
    source.fault = None
    assert await batches.ask("a") == "A"


async def test_who_leaves_takes_nothing_along(
    batches: LookupBatcher[str, str], source: Source
) -> None:
    """A cancelled caller ends its own waiting only, before and after the sending."""
    source.open.clear()
    asked = [batches.ask("a") for _ in range(4)]
    asked[0].cancel()
    await asyncio.sleep(0.005)
    asked[1].cancel()
    source.open.set()
    assert await asyncio.gather(*asked[2:]) == ["A", "A"]
    assert source.asked == [("a",)]


async def test_the_end(source: Source) -> None:
    """Whoever still waits is cancelled; a later question is a fault of ours."""
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
