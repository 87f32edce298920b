"""Decides when to read the configuration again: on request, and when one of its files has changed.

Logs and counts the outcome. `Sidecar.reload` applies the new settings.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from sidecar.app import build
from sidecar.app.file_watch import FileWatch
from sidecar.errors import ConfigError
from sidecar.settings import files_of
from sidecar.tasks import wait_any

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.app.sidecar import Sidecar
    from sidecar.settings import Loaded

logger = logging.getLogger("sidecar.reload")

_NOT_USED: Final = "the new configuration is not used"
# Checks after a failed reload before the next attempt: a file that it needs may have appeared.
_CHECKS_BEFORE_RETRY: Final = 30


class Reloader:
    """Reloads one sidecar. `reread` reads the settings again and may raise ConfigError.

    `path` is the configuration file, empty if there is none. The files are checked every `every`
    seconds.
    """

    def __init__(
        self, sidecar: Sidecar, reread: Callable[[], Loaded], path: str, *, every: float = 1.0
    ) -> None:
        self._sidecar = sidecar
        self._reread = reread
        self._path = path
        self._every = every
        self._watch = FileWatch(self._files())
        self._checks = 0  # since the last attempt
        self._problems: list[str] = []  # of the last attempt

    def __repr__(self) -> str:
        return f"<Reloader {self._watch!r}>"

    async def run(self, requested: asyncio.Event) -> None:
        """Reload whenever a file has changed or `requested` is set, which is then cleared."""
        while True:
            await wait_any(self._every, requested)
            if requested.is_set() or (self._sidecar.settings.watch_files and self._is_due()):
                requested.clear()
                await self.reload()

    def _is_due(self) -> bool:
        self._checks += 1
        failed = self._sidecar.metrics.reload_failed
        return self._watch.has_changed() or (failed and self._checks >= _CHECKS_BEFORE_RETRY)

    async def reload(self) -> None:
        """Reload now. Counts failures; logs a failure unless the last one had the same problems."""
        metrics = self._sidecar.metrics
        self._checks = 0
        self._watch.take()
        before, self._problems = self._problems, []
        try:
            loaded = await asyncio.to_thread(self._reread)
            waiting = await self._sidecar.reload(loaded.settings)
        except ConfigError as fault:
            self._problems = [str(each) for each in fault.problems]
            if self._problems != before:
                logger.warning(_NOT_USED, extra={"problems": self._problems})
        except Exception:  # the old configuration stays in use, and the next may be usable
            logger.exception(_NOT_USED)
        else:
            metrics.reloads["success"] += 1
            metrics.reload_failed = False
            metrics.reloaded = time.time()
            logging.getLogger().setLevel(self._sidecar.settings.log_level.upper())
            logger.info("configuration reloaded", extra={"waiting_for_restart": waiting})
            build.log_warnings((*loaded.warnings, *self._sidecar.warnings()))
            self._watch.replace_paths(self._files())
            return
        metrics.reloads["failure"] += 1
        metrics.reload_failed = True

    def _files(self) -> tuple[str, ...]:
        named = files_of(self._sidecar.settings)
        return (self._path, *named) if self._path else tuple(named)
