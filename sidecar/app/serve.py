"""Runs a sidecar as a whole process, from its start to the signal that ends it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.app import build
from sidecar.app.gc_tuning import GcTuner
from sidecar.app.reload import Reloader
from sidecar.app.sidecar import Sidecar
from sidecar.app.signals import Signals

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.settings import Loaded
    from sidecar.telemetry.logs import Redactor


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses that the sidecar listens on, with the ports that it really has."""

    host: str
    port: int
    admin_host: str
    admin_port: int


async def serve(
    loaded: Loaded,
    *,
    redactor: Redactor | None = None,
    ready: Callable[[Addresses], None] | None = None,
    reread: Callable[[], Loaded] | None = None,
    path: str = "",
) -> bool:
    """Run until SIGTERM or SIGINT, then drain and return. A second signal ends the draining.

    Returns False if the draining was cut short. SIGINT (Ctrl-C) skips the delay before it. SIGHUP
    and a change of the file at `path`, or of a file that it names, reload the settings that
    `reread` returns. Warnings are logged at the start and after each reload. `ready` is called once
    the sidecar listens. Raises what `Sidecar` and its `start` raise.
    """
    settings = loaded.settings
    sidecar = Sidecar(settings, redactor=redactor)
    build.log_warnings((*loaded.warnings, *sidecar.warnings()))
    signals = Signals()
    gc_tuner = GcTuner()
    reloader = None if reread is None else Reloader(sidecar, reread, path)
    with signals.handled(hangup=reread is not None):
        try:
            if await _start(sidecar, signals):
                if ready is not None:
                    hosts = settings.listen.host, settings.admin_listen.host
                    ready(Addresses(hosts[0], sidecar.port, hosts[1], sidecar.admin_port))
                gc_tuner.install()
                try:
                    await _serve(signals, reloader)
                finally:
                    gc_tuner.remove()
        finally:
            delay = 0.0 if signals.interactive else sidecar.settings.drain_delay
            await sidecar.stop(delay=delay, hurry=signals.hurry)
    return not signals.hurry.is_set()


async def _serve(signals: Signals, reloader: Reloader | None) -> None:
    """Wait for the signal to stop; reload meanwhile."""
    if reloader is None:
        await signals.stop.wait()
        return
    reloading = asyncio.create_task(reloader.run(signals.reload), name="reload")
    try:
        await signals.stop.wait()
    finally:
        reloading.cancel()  # not awaited: the draining begins in this turn of the loop


async def _start(sidecar: Sidecar, signals: Signals) -> bool:
    """Whether the sidecar started before a signal to stop. Raises what `start` raises."""
    starting = asyncio.create_task(sidecar.start(), name="start")
    stopping = asyncio.create_task(signals.stop.wait(), name="stop")
    try:
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            return True
        return False
    finally:
        for task in (starting, stopping):
            task.cancel()
        await asyncio.wait((starting, stopping))
