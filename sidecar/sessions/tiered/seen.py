"""Has the shared store know of logins that are let in without asking it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sidecar.sessions.memory.near import NearCache
    from sidecar.sessions.store import SharedStore

_EVERY: Final = 60.0  # seconds


async def keep_seen(
    near: NearCache,
    store: SharedStore,
    clock: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
) -> None:
    """Tell it once a minute, until cancelled."""
    while True:
        since = clock()
        await sleep(_EVERY)
        await store.touch(near.used_since(since))
