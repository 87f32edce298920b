"""Which settings a reload may change, and the files that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from sidecar.errors import ConfigError, Problem
from sidecar.settings.checks import check
from sidecar.settings.model import Settings
from sidecar.settings.routes import check_routes

if TYPE_CHECKING:
    from collections.abc import Iterator

# Read anew from the same file whenever Redis needs them, and so never wait for a restart.
_READ_ANEW: Final = ("redis_password", "redis_sentinel_password")
_TLS: Final = frozenset(
    (
        "tls_cert_file",
        "tls_key_file",
        "tls_min_version",
        "tls_client_auth",
        "tls_client_ca_file",
    )
)
# These wait for a restart. A reload applies every other setting, so a new one must work that way or
# be added here.
FIXED: Final = frozenset(
    (
        # listeners and the upstream
        "listen",
        "admin_listen",
        "upstream_url",
        "upstream_connect_timeout",
        "upstream_idle_timeout",
        "upstream_max_connections",
        # tokens
        "jwt_issuer",
        "jwt_audience",
        "access_token_expiry",
        "refresh_token_expiry",
        # sessions
        "session_mode",
        "session_store",
        "session_key",
        "session_cache_size",
        "session_max_stale",
        "session_recovery",
        "state_dir",
        "session_max_age",
        "auth_prefix",
        "session_cookie",
        "session_cookie_samesite",
        "session_cookie_domain",
        "redis_url",
        "redis_host",
        "redis_port",
        "redis_db",
        "redis_username",
        "redis_password",
        "redis_password_file",
        "redis_password_command",
        "redis_sentinel_username",
        "redis_sentinel_password",
        "redis_sentinel_password_file",
        "redis_ca_file",
        "redis_cert_file",
        "redis_key_file",
        "redis_timeout",
        "redis_key_prefix",
        # requests and logs
        "paths_ambiguous",
        "max_head_size",
        "max_headers",
        "max_token_size",
        "identity",
        "log_format",
        "access_log",
    )
)


def merge(old: Settings, new: Settings) -> tuple[Settings, tuple[str, ...]]:
    """Apply the new settings as far as a reload may; also return the names that need a restart.

    Raises ConfigError if the resulting combination of old and new settings is invalid.
    """
    changed = [
        name for name in Settings.__struct_fields__ if getattr(old, name) != getattr(new, name)
    ]
    fixed = FIXED if bool(old.tls_cert_file) == bool(new.tls_cert_file) else FIXED | _TLS
    fixed -= {name for name in _READ_ANEW if _same_file(f"{name}_file", old, new)}
    taken = {name: getattr(new, name) for name in changed if name not in fixed}
    merged = msgspec.structs.replace(old, **taken)
    waiting = tuple(name for name in changed if name not in taken)
    found = [
        *check(merged, set()),
        *(
            (f"route[{position + 1}].{key}", text)
            for position, key, text in check_routes(merged.route, merged.auth_prefix)
        ),
    ]
    problems = [Problem(name, f"{text}, before a restart") for name, text in found]
    if problems:
        raise ConfigError(problems)
    return merged, waiting


def _same_file(name: str, old: Settings, new: Settings) -> bool:
    path: str = getattr(new, name)
    return bool(path) and path == getattr(old, name)


def files_of(settings: Settings) -> Iterator[str]:
    """Yield the path of every file that the settings name and that is read with them.

    An issuer's `token_file` is read whenever its keys are fetched.
    """
    for table in (settings, *settings.issuer):
        for name in table.__struct_fields__:
            if name.endswith("_file") and name != "token_file" and getattr(table, name):
                yield getattr(table, name)
