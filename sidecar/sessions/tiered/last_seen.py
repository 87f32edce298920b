"""Records in the shared store when logins were seen that the near cache answered for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sidecar.sessions.memory.near import NearCache
    from sidecar.sessions.store import SharedStore

_INTERVAL: Final = 60.0  # seconds


async def record_last_seen(
    near: NearCache,
    store: SharedStore,
    clock: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
) -> None:
    """Record them once a minute, until cancelled."""
    while True:
        since = clock()
        await sleep(_INTERVAL)
        await store.touch(near.used_since(since))
