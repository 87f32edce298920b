"""Makes the session store."""

from __future__ import annotations

import logging
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.app.build.config_errors import config_errors_at
from sidecar.auth.session import SessionKey
from sidecar.sessions.memory.local import LocalStore
from sidecar.sessions.revocation.denylist import OwnTokens
from sidecar.settings import read_secret
from sidecar.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from sidecar.sessions.redis.connect import RedisConfig
    from sidecar.sessions.redis.store import RedisStore
    from sidecar.sessions.revocation.journal_file import JournalFile
    from sidecar.sessions.tiered.store import TieredStore
    from sidecar.settings import Settings

logger = logging.getLogger("sidecar.sessions")


def make_store(settings: Settings, metrics: Metrics) -> LocalStore | TieredStore:
    """Where sessions live. Raises ConfigError."""
    if settings.session_store == "local":
        return LocalStore(
            time.time, settings.session_cache_size, lookups=metrics.lookups, own=_own(settings)
        )
    return _make_shared(settings, metrics)


def make_remote(
    settings: Settings, metrics: Metrics | None = None, *, timeout: float | None = None
) -> tuple[Redis, RedisStore]:
    """The shared store alone, and its client. It is the store that is to be closed.

    `timeout` (seconds) takes the place of redis_timeout. Raises ConfigError.
    """
    # The client library is 7 MiB and 150 ms of CPU, which local sessions do without.
    from sidecar.sessions.redis.connect import connect  # noqa: PLC0415
    from sidecar.sessions.redis.store import RedisStore  # noqa: PLC0415

    timeout = settings.redis_timeout if timeout is None else timeout
    client = connect(_redis_config(settings, timeout))
    store = RedisStore(
        client,
        Metrics() if metrics is None else metrics,
        timeout=timeout,
        max_ttl=longest(settings),
        session_key=SessionKey(settings.session_key),
        own=_own(settings),
    )
    return client, store


def _make_shared(settings: Settings, metrics: Metrics) -> TieredStore:
    from sidecar.sessions.redis.connect import tracked  # noqa: PLC0415
    from sidecar.sessions.redis.tracking import NOT_TRACKING  # noqa: PLC0415
    from sidecar.sessions.revocation.journal import Journal  # noqa: PLC0415
    from sidecar.sessions.tiered.breaker import Breaker  # noqa: PLC0415
    from sidecar.sessions.tiered.store import TieredStore  # noqa: PLC0415

    follow = tracked(_redis_config(settings, settings.redis_timeout))
    if follow is None:
        logger.info(NOT_TRACKING)
    journal = Journal(_journal_file(settings.state_dir))
    store = TieredStore(
        make_remote(settings, metrics)[1],
        Breaker(),
        metrics,
        max_sessions=settings.session_cache_size,
        max_stale=settings.session_max_stale,
        max_ttl=longest(settings),
        connect=follow,
        journal=journal,
        migrate=settings.session_recovery == "migrate",
        own=_own(settings),
    )
    metrics.near, metrics.journal = store.near, journal
    return store


def _redis_config(settings: Settings, timeout: float) -> RedisConfig:
    from sidecar.sessions.redis.connect import RedisConfig  # noqa: PLC0415

    file = settings.redis_password_file
    return RedisConfig(
        url=settings.redis_url,
        host=settings.redis_host,
        port=settings.redis_port,
        username=settings.redis_username,
        password=settings.redis_password,
        db=settings.redis_db,
        ca_file=settings.redis_ca_file,
        cert_file=settings.redis_cert_file,
        key_file=settings.redis_key_file,
        read_password=partial(read_secret, file) if file else None,
        timeout=timeout,
    )


def longest(settings: Settings) -> float:
    """The longest that any credential of ours lives, in seconds."""
    return max(settings.refresh_token_expiry, settings.access_token_expiry)


def _own(settings: Settings) -> OwnTokens:
    """What is denied when one of our logins ends."""
    denies = settings.session_mode == "denylist"
    return OwnTokens(settings.jwt_issuer if denies else None, longest(settings))


def _journal_file(folder: str) -> JournalFile | None:
    """Where revocations outlive a restart, if that is wanted."""
    if not folder:
        return None
    from sidecar.sessions.revocation.journal_file import JournalFile  # noqa: PLC0415

    with config_errors_at(f"state_dir {folder}"):
        return JournalFile(Path(folder))
