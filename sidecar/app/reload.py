"""Reads the configuration again: when it is asked to, and when a file of it has changed.

Owns when that happens and what is said of it; what may change in operation is `Sidecar.reload`'s.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from sidecar.app.file_watch import FileWatch
from sidecar.errors import ConfigError
from sidecar.settings import files_of
from sidecar.tasks import wait_any

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.app.sidecar import Sidecar
    from sidecar.settings import Settings

logger = logging.getLogger("sidecar.reload")

_NOT_USED: Final = "the new configuration is not used"
# Looks between two tries of one that is not good: what it names may have come meanwhile.
_LOOKS: Final = 30


class Reloader:
    """All of one process. `reread` gives the settings anew, and raises ConfigError.

    `path` is the configuration file, if there is one; files are looked at every `every` seconds.
    """

    def __init__(
        self, sidecar: Sidecar, reread: Callable[[], Settings], path: str, *, every: float = 1.0
    ) -> None:
        self._sidecar = sidecar
        self._reread = reread
        self._path = path
        self._every = every
        self._watch = FileWatch(self._files())
        self._looks = 0  # since the last try
        self._problems: list[str] = []  # of the last try

    def __repr__(self) -> str:
        return f"<Reloader {self._watch!r}>"

    async def run(self, asked: asyncio.Event) -> None:
        """Go on for ever; once `asked` is set, reload and clear it."""
        while True:
            await wait_any(self._every, asked)
            if asked.is_set() or (self._sidecar.settings.watch_files and self._is_due()):
                asked.clear()
                await self.reload()

    def _is_due(self) -> bool:
        self._looks += 1
        failed = self._sidecar.metrics.reload_failed
        return self._watch.has_changed() or (failed and self._looks >= _LOOKS)

    async def reload(self) -> None:
        """Once, now. What is wrong is logged, once for as long as it is the same, and counted."""
        metrics = self._sidecar.metrics
        self._looks = 0
        self._watch.take()
        before, self._problems = self._problems, []
        try:
            waiting = await self._sidecar.reload(await asyncio.to_thread(self._reread))
        except ConfigError as fault:
            self._problems = [str(each) for each in fault.problems]
            if self._problems != before:
                logger.warning(_NOT_USED, extra={"problems": self._problems})
        except Exception:  # the process serves on by the old one, and the next may be good
            logger.exception(_NOT_USED)
        else:
            metrics.reloads["success"] += 1
            metrics.reload_failed = False
            metrics.reloaded = time.time()
            logging.getLogger().setLevel(self._sidecar.settings.log_level.upper())
            logger.info("configuration reloaded", extra={"waiting_for_restart": waiting})
            self._watch.turn_to(self._files())
            return
        metrics.reloads["failure"] += 1
        metrics.reload_failed = True

    def _files(self) -> tuple[str, ...]:
        named = files_of(self._sidecar.settings)
        return (self._path, *named) if self._path else tuple(named)
