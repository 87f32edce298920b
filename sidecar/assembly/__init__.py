"""Makes the program's parts from settings by plain constructors; starts none of them.

Together with `app` the only place that knows every part. Raises ConfigError for settings and files
that cannot be used, with the place of each and what was expected there.
"""

from __future__ import annotations

from sidecar.assembly.pages import error_pages, login_url
from sidecar.assembly.parts import (
    Parts,
    make_limits,
    make_origin_limits,
    make_parts,
    make_paths,
    make_redirect_origins,
)
from sidecar.assembly.stores import longest, make_remote, make_store
from sidecar.assembly.trust import (
    Keys,
    make_issuer,
    make_key_source,
    make_verifier,
    read_foreign_keys,
)

__all__ = [
    "Keys",
    "Parts",
    "error_pages",
    "login_url",
    "longest",
    "make_issuer",
    "make_key_source",
    "make_limits",
    "make_origin_limits",
    "make_parts",
    "make_paths",
    "make_redirect_origins",
    "make_remote",
    "make_store",
    "make_verifier",
    "read_foreign_keys",
]
