"""Makes the program's parts from settings by plain constructors; starts none of them.

Together with `app` the only place that knows every part. Raises ConfigError for settings and files
that cannot be used, with the place of each and what was expected there.
"""

from __future__ import annotations

from sidecar.app.build.components import (
    Components,
    make_components,
    make_limits,
    make_paths,
    make_redirect_origins,
    make_upstream_pool_limits,
)
from sidecar.app.build.pages import error_pages, login_url
from sidecar.app.build.stores import longest, make_remote, make_store
from sidecar.app.build.trust import (
    Keys,
    make_issuer,
    make_jwks_fetcher,
    make_verifier,
    read_foreign_keys,
)

__all__ = [
    "Components",
    "Keys",
    "error_pages",
    "login_url",
    "longest",
    "make_components",
    "make_issuer",
    "make_jwks_fetcher",
    "make_limits",
    "make_paths",
    "make_redirect_origins",
    "make_remote",
    "make_store",
    "make_upstream_pool_limits",
    "make_verifier",
    "read_foreign_keys",
]
