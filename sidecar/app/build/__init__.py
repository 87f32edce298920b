"""Makes the program's components from settings by plain constructors; starts none of them.

Only this folder and `app` know every component. Raises ConfigError for settings and files that
cannot be used; each problem names its place and what was expected there.
"""

from __future__ import annotations

from sidecar.app.build.components import (
    Components,
    make_clearing_line,
    make_components,
    make_cookie_form,
    make_head_limits,
    make_paths,
    make_upstream_pool_limits,
    make_verify_endpoint,
)
from sidecar.app.build.live import make_data_plane_config, make_limits, make_live_config
from sidecar.app.build.redis_credentials import make_redis_credentials
from sidecar.app.build.stores import (
    longest,
    make_guess_defence,
    make_remote,
    make_store,
    make_value_mac,
    refresh_secrets,
)
from sidecar.app.build.trust import (
    Keys,
    make_issuer,
    make_jwks_fetcher,
    make_verifier,
    read_foreign_keys,
)
from sidecar.app.build.warnings import config_warnings, log_warnings

__all__ = [
    "Components",
    "Keys",
    "config_warnings",
    "log_warnings",
    "longest",
    "make_clearing_line",
    "make_components",
    "make_cookie_form",
    "make_data_plane_config",
    "make_guess_defence",
    "make_head_limits",
    "make_issuer",
    "make_jwks_fetcher",
    "make_limits",
    "make_live_config",
    "make_paths",
    "make_redis_credentials",
    "make_remote",
    "make_store",
    "make_upstream_pool_limits",
    "make_value_mac",
    "make_verifier",
    "make_verify_endpoint",
    "read_foreign_keys",
    "refresh_secrets",
]
