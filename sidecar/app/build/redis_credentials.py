"""Makes what keeps Redis' credential up to date, if a file or a command provides it."""

from __future__ import annotations

import os
import shutil
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from sidecar.errors import ConfigError, Problem
from sidecar.settings import read_secret, secret_names

if TYPE_CHECKING:
    from sidecar.sessions.redis.credential_renewal import RedisCredentials
    from sidecar.settings import Settings
    from sidecar.telemetry.metrics import Metrics


def make_redis_credentials(settings: Settings, metrics: Metrics) -> RedisCredentials | None:
    """The source of Redis' credential; None if the settings contain it, or need none.

    A password in redis_url has precedence over a file.
    """
    if settings.session_store == "local":
        return None
    url = urlsplit(settings.redis_url.reveal())
    file, argv = settings.redis_password_file, settings.redis_password_command
    if url.password is not None or not (file or argv):
        return None
    from sidecar.sessions.redis.credential_command import CredentialCommand  # noqa: PLC0415
    from sidecar.sessions.redis.credential_renewal import RedisCredentials  # noqa: PLC0415
    from sidecar.sessions.redis.credentials import CredentialFile  # noqa: PLC0415

    source: CredentialCommand | CredentialFile
    if argv:
        source = CredentialCommand(argv, _environment())
    else:
        source = CredentialFile(partial(read_secret, file), f"redis_password_file {file}")
    return RedisCredentials(source, unquote(url.username or "") or settings.redis_username, metrics)


def check_redis_credential(settings: Settings) -> None:
    """Look for the program, and read the file. Raises ConfigError.

    Without this check, a mistake in them would look like a Redis that refuses the sidecar.
    """
    if settings.session_store == "local":
        return
    argv = settings.redis_password_command
    if argv and shutil.which(argv[0]) is None:
        expected = f"expected a program that can be executed; not found: {argv[0]}"
        raise ConfigError([Problem("redis_password_command", expected)])
    if settings.redis_password_file:
        from sidecar.sessions.redis.credentials import (  # noqa: PLC0415
            CredentialError,
            parse_credential,
        )

        try:
            parse_credential(settings.redis_password.reveal(), "")
        except CredentialError as error:
            where = f"redis_password_file {settings.redis_password_file}"
            raise ConfigError([Problem(where, str(error))]) from None


def _environment() -> dict[str, str]:
    """What the command inherits: everything but the sidecar's own secrets."""
    secrets = {name.upper() for name in secret_names()}
    return {name: value for name, value in os.environ.items() if name not in secrets}
