"""How many requests wait for keys at once."""

from __future__ import annotations

import asyncio

from sidecar.issuers.key_waiters import KeyWaiters
from sidecar.proxy.fair_share import FairShare
from tests.proxy.memory_plane import rest


def waiters(places: FairShare) -> KeyWaiters:
    """Return a waiting room of these places; the tests set the event themselves."""
    return KeyWaiters(lambda _: None, places)


async def test_places() -> None:
    """A caller takes at most half of the places; who gets none does not wait."""
    places, fetched = FairShare(4), asyncio.Event()
    keys = waiters(places)
    first = [asyncio.create_task(keys.wait(fetched, "a")) for _ in range(3)]
    other = asyncio.create_task(keys.wait(fetched, "b"))
    await rest()
    assert [task.done() for task in (*first, other)] == [False, False, True, False]
    assert repr(keys) == "<KeyWaiters in <FairShare 3 of 4 used by 2 callers>>"
    fetched.set()
    await asyncio.gather(*first, other)
    assert places.used == 0


async def test_cancelled() -> None:
    """A waiter that is cancelled, begun or not, leaves its place to others."""
    places = FairShare(4)
    keys = waiters(places)
    begun = asyncio.create_task(keys.wait(asyncio.Event(), "a"))
    await rest()
    fresh = asyncio.create_task(keys.wait(asyncio.Event(), "a"))
    fresh.cancel()
    begun.cancel()
    await asyncio.gather(begun, fresh, return_exceptions=True)
    assert places.used == 0
