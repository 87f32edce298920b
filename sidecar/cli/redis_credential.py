"""Fetches Redis' credential for a command that runs once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.app import build
from sidecar.cli.terminal import CommandFailed

if TYPE_CHECKING:
    from sidecar.sessions.redis.credential_renewal import RedisCredentials
    from sidecar.settings import Settings
    from sidecar.telemetry.metrics import Metrics


async def fetch_credential(settings: Settings, metrics: Metrics) -> RedisCredentials | None:
    """The credential from its file or command; None if the settings contain it, or need none.

    Raises CommandFailed.
    """
    credentials = build.make_redis_credentials(settings, metrics)
    if credentials is not None:
        await credentials.renew()
        if credentials.problem:
            raise CommandFailed(f"there is no credential for Redis: {credentials.problem}")
    return credentials
