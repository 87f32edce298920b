"""Which settings a reload may change, and the files that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from sidecar.errors import ConfigError, Problem
from sidecar.settings.checks import check
from sidecar.settings.model import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

_TLS: Final = frozenset(
    (
        "tls_cert_file",
        "tls_key_file",
        "tls_min_version",
        "tls_client_auth",
        "tls_client_ca_file",
    )
)
CHANGEABLE: Final = _TLS | {
    "upstream_ca_file",
    "upstream_cert_file",
    "upstream_key_file",
    "upstream_server_name",
    "upstream_timeout",
    "upstream_queue_timeout",
    "jwt_secret",
    "jwt_secret_file",
    "jwt_secret_previous",
    "jwt_secret_previous_file",
    "refresh_secret",
    "refresh_secret_file",
    "refresh_secret_previous",
    "refresh_secret_previous_file",
    "allow_weak_secrets",
    "jwt_private_key_file",
    "jwt_algorithm",
    "jwt_audience",
    "jwks_url",
    "jwt_leeway",
    "session_outage",
    "users_file",
    "login_url",
    "redirect_origins",
    "trusted_proxies",
    "header_timeout",
    "idle_timeout",
    "max_connections",
    "max_requests",
    "min_body_rate",
    "min_send_rate",
    "drain_delay",
    "drain_timeout",
    "watch_files",
    "log_level",
    "route",
    "issuer",
}


def merge(old: Settings, new: Settings) -> tuple[Settings, tuple[str, ...]]:
    """Apply the new settings as far as a reload may; also return the names that need a restart.

    Raises ConfigError if the resulting combination of old and new settings is invalid.
    """
    changed = [
        name for name in Settings.__struct_fields__ if getattr(old, name) != getattr(new, name)
    ]
    fixed = frozenset[str]() if bool(old.tls_cert_file) == bool(new.tls_cert_file) else _TLS
    taken = {name: getattr(new, name) for name in changed if name in CHANGEABLE - fixed}
    merged = msgspec.structs.replace(old, **taken)
    waiting = tuple(name for name in changed if name not in taken)
    problems = [Problem(name, f"{text}, before a restart") for name, text in check(merged, set())]
    if problems:
        raise ConfigError(problems)
    return merged, waiting


def files_of(settings: Settings) -> Iterator[str]:
    """Yield the path of every file that the settings name."""
    for table in (settings, *settings.issuer):
        for name in table.__struct_fields__:
            if name.endswith("_file") and getattr(table, name):
                yield getattr(table, name)
