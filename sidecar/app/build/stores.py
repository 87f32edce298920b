"""Makes the session store from settings."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.api.guesses import GuessDefence
from sidecar.app.build.config_errors import config_errors_at
from sidecar.auth.session import SessionKey
from sidecar.auth.value_mac import ValueMac
from sidecar.sessions.memory.local import LocalStore
from sidecar.sessions.revocation.denylist import OwnTokens
from sidecar.settings import ANY_AUDIENCE, read_secret

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from sidecar.sessions.redis.connect import RedisConfig
    from sidecar.sessions.redis.credential_renewal import RedisCredentials
    from sidecar.sessions.redis.guess_counters import RedisGuessCounters
    from sidecar.sessions.redis.store import RedisStore
    from sidecar.sessions.revocation.journal_file import JournalFile
    from sidecar.sessions.tiered.store import TieredStore
    from sidecar.settings import Settings
    from sidecar.telemetry.metrics import Metrics


def make_value_mac(settings: Settings) -> ValueMac:
    """The MAC of values in Redis, in the realm of this issuer and its audience."""
    audience = "" if settings.jwt_audience == ANY_AUDIENCE else settings.jwt_audience
    return ValueMac(refresh_secrets(settings), settings.jwt_issuer, audience)


def refresh_secrets(settings: Settings) -> list[bytes]:
    """The refresh secrets in use; the first is the present one."""
    found = (settings.refresh_secret, settings.refresh_secret_previous)
    return [secret.reveal().encode() for secret in found if secret]


def make_store(
    settings: Settings, metrics: Metrics, mac: ValueMac, credentials: RedisCredentials | None
) -> LocalStore | TieredStore:
    """The session store: local memory, or Redis with memory as a fallback. Raises ConfigError.

    The caller starts `credentials` before the store.
    """
    if settings.session_store == "local":
        return LocalStore(
            time.time, settings.session_cache_size, lookups=metrics.lookups, own=_own(settings)
        )
    return _make_shared(settings, metrics, mac, credentials)


def make_remote(
    settings: Settings,
    metrics: Metrics,
    mac: ValueMac,
    credentials: RedisCredentials | None,
    *,
    timeout: float | None = None,
) -> tuple[Redis, RedisStore]:
    """The Redis client and the shared store on it. Close the store; that closes the client.

    `timeout` (seconds) replaces redis_timeout. Raises ConfigError.
    """
    # The client library takes 7 MiB and 150 ms of CPU, which local sessions do not need.
    from sidecar.sessions.redis.connect import connect  # noqa: PLC0415
    from sidecar.sessions.redis.store import RedisStore  # noqa: PLC0415

    timeout = settings.redis_timeout if timeout is None else timeout
    client = connect(_redis_config(settings, timeout, credentials))
    store = RedisStore(
        client,
        metrics,
        mac,
        prefix=settings.redis_key_prefix,
        timeout=timeout,
        max_ttl=longest(settings),
        session_key=SessionKey(settings.session_key),
        own=_own(settings),
    )
    return client, store


def make_guess_defence(
    settings: Settings, mac: ValueMac, credentials: RedisCredentials | None
) -> tuple[GuessDefence, RedisGuessCounters | None]:
    """What counts login attempts, and its part in Redis, if any, which the caller closes."""
    if settings.session_store == "local":
        return GuessDefence(), None
    from sidecar.sessions.redis.connect import connect  # noqa: PLC0415
    from sidecar.sessions.redis.guess_counters import (  # noqa: PLC0415
        CONNECTIONS,
        TIMEOUT,
        RedisGuessCounters,
    )
    from sidecar.sessions.redis.key_names import KeyNames  # noqa: PLC0415

    timeout = min(settings.redis_timeout, TIMEOUT)
    config = _redis_config(settings, timeout, credentials)
    config = replace(config, max_connections=CONNECTIONS)
    names = KeyNames(settings.redis_key_prefix, mac.realm)
    shared = RedisGuessCounters(connect(config), names, timeout=timeout)
    return GuessDefence(shared), shared


def _make_shared(
    settings: Settings, metrics: Metrics, mac: ValueMac, credentials: RedisCredentials | None
) -> TieredStore:
    from sidecar.sessions.redis.connect import tracked  # noqa: PLC0415
    from sidecar.sessions.revocation.journal import Journal  # noqa: PLC0415
    from sidecar.sessions.tiered.breaker import Breaker  # noqa: PLC0415
    from sidecar.sessions.tiered.store import TieredStore  # noqa: PLC0415

    journal = Journal(_journal_file(settings.state_dir))
    store = TieredStore(
        make_remote(settings, metrics, mac, credentials)[1],
        Breaker(),
        metrics,
        max_sessions=settings.session_cache_size,
        max_stale=settings.session_max_stale,
        max_ttl=longest(settings),
        connect=tracked(_redis_config(settings, settings.redis_timeout, credentials)),
        journal=journal,
        migrate=settings.session_recovery == "migrate",
        own=_own(settings),
    )
    mac.set_removal_listener(store.near.clear)
    metrics.near, metrics.journal = store.near, journal
    return store


def _redis_config(
    settings: Settings, timeout: float, credentials: RedisCredentials | None
) -> RedisConfig:
    from sidecar.sessions.redis.connect import RedisConfig  # noqa: PLC0415

    file = settings.redis_sentinel_password_file
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
        credentials=credentials,
        sentinel_username=settings.redis_sentinel_username,
        sentinel_password=settings.redis_sentinel_password,
        read_sentinel_password=partial(read_secret, file) if file else None,
        timeout=timeout,
    )


def longest(settings: Settings) -> float:
    """The longest lifetime of any credential that is issued here, in seconds."""
    return max(settings.refresh_token_expiry, settings.access_token_expiry)


def _own(settings: Settings) -> OwnTokens:
    """Which of the tokens issued here are revoked when their login ends."""
    revokes = settings.session_mode == "denylist"
    return OwnTokens(settings.jwt_issuer if revokes else None, longest(settings))


def _journal_file(folder: str) -> JournalFile | None:
    """The file in which revocations survive a restart; None without `state_dir`."""
    if not folder:
        return None
    from sidecar.sessions.revocation.journal_file import JournalFile  # noqa: PLC0415

    with config_errors_at(f"state_dir {folder}"):
        return JournalFile(Path(folder))
