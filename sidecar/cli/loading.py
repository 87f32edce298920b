"""Loads the settings from the command line, the environment and the configuration file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sidecar.cli.parser import SETTING_FLAGS
from sidecar.settings import load

if TYPE_CHECKING:
    from argparse import Namespace

    from sidecar.settings import Loaded


def config_path(arguments: Namespace) -> str:
    """Return the path of the configuration file, or an empty text if there is none."""
    return str(arguments.config or os.environ.get("SIDECAR_CONFIG") or "")


def load_arguments(arguments: Namespace) -> Loaded:
    """Load the settings and their origins. Raises ConfigError with every problem."""
    given = {name: getattr(arguments, name, None) for _, name, _, _ in SETTING_FLAGS}
    flags = {name: value for name, value in given.items() if value is not None}
    return load(env=os.environ, file=arguments.config, flags=flags)
