"""The settings: what can be configured, and how it is read, checked and shown.

Only `app`, `demo` and `cli` import this package; all other code receives plain arguments.
"""

from __future__ import annotations

from sidecar.settings.changes import files_of, merge
from sidecar.settings.load import Loaded, load, settings_from
from sidecar.settings.model import (
    ANY_AUDIENCE,
    CorsSettings,
    IssuerSettings,
    Settings,
    secret_names,
    secrets_of,
)
from sidecar.settings.net import Address, Upstream
from sidecar.settings.routes import DEFAULT_PREFIX, RouteSettings
from sidecar.settings.secret_files import read_secret
from sidecar.settings.show import print_config
from sidecar.settings.warnings import find_warnings

__all__ = [
    "ANY_AUDIENCE",
    "DEFAULT_PREFIX",
    "Address",
    "CorsSettings",
    "IssuerSettings",
    "Loaded",
    "RouteSettings",
    "Settings",
    "Upstream",
    "files_of",
    "find_warnings",
    "load",
    "merge",
    "print_config",
    "read_secret",
    "secret_names",
    "secrets_of",
    "settings_from",
]
