"""A whole process: a sidecar that runs until a signal ends it. Knows no part of the sidecar."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.app.gc_tuning import GcTuner
from sidecar.app.reload import Reloader
from sidecar.app.sidecar import Sidecar
from sidecar.app.signals import Signals

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.settings import Settings
    from sidecar.telemetry.logs import Redactor


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the sidecar listens."""

    host: str
    port: int
    admin_host: str
    admin_port: int


async def serve(
    settings: Settings,
    *,
    redactor: Redactor | None = None,
    ready: Callable[[Addresses], None] | None = None,
    reread: Callable[[], Settings] | None = None,
    path: str = "",
) -> bool:
    """Run until SIGTERM or SIGINT, then drain and return; a second signal ends the draining.

    False when it came to that. SIGINT, as Ctrl-C sends it, skips the delay before the draining.
    SIGHUP, and a change of the configuration file at `path` or of a file that it names, let
    `reread` give the settings anew. Raises what `Sidecar` and its `start` raise.
    """
    sidecar = Sidecar(settings, redactor=redactor)
    signals = Signals()
    gc_tuner = GcTuner()
    reloads = None if reread is None else Reloader(sidecar, reread, path)
    with signals.heard(hangup=reread is not None):
        try:
            if await _start(sidecar, signals):
                if ready is not None:
                    hosts = settings.listen.host, settings.admin_listen.host
                    ready(Addresses(hosts[0], sidecar.port, hosts[1], sidecar.admin_port))
                gc_tuner.install()
                try:
                    await _serve(signals, reloads)
                finally:
                    gc_tuner.remove()
        finally:
            delay = 0.0 if signals.typed else sidecar.settings.drain_delay
            await sidecar.stop(delay=delay, hurry=signals.now)
    return not signals.now.is_set()


async def _serve(signals: Signals, reloads: Reloader | None) -> None:
    """Until it is to leave."""
    if reloads is None:
        await signals.leave.wait()
        return
    reloading = asyncio.create_task(reloads.run(signals.reload), name="reload")
    try:
        await signals.leave.wait()
    finally:
        reloading.cancel()  # not waited for: the draining begins in this very turn


async def _start(sidecar: Sidecar, signals: Signals) -> bool:
    """Start it, unless it is to leave before it has. Raises what `start` raises."""
    starting = asyncio.create_task(sidecar.start(), name="start")
    leaving = asyncio.create_task(signals.leave.wait(), name="leave")
    try:
        await asyncio.wait((starting, leaving), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            return True
        return False
    finally:
        for task in (starting, leaving):
            task.cancel()
        await asyncio.wait((starting, leaving))
