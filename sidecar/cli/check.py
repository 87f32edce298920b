"""`sidecar check`: reports every problem of a configuration, or prints the settings in effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.app import build
from sidecar.cli.loading import load_arguments
from sidecar.cli.terminal import say
from sidecar.settings import print_config

if TYPE_CHECKING:
    from argparse import Namespace


def check(arguments: Namespace) -> bool:
    """Read the configuration and every file that it names. Raises ConfigError."""
    loaded = load_arguments(arguments)
    settings = loaded.settings
    build.make_components(settings)
    if arguments.print_config:
        say(print_config(settings, loaded.origins), end="")
        return True
    routes = f"{len(settings.route)} route{'' if len(settings.route) == 1 else 's'}"
    store = "Redis" if settings.session_store == "redis" else "local memory"
    say(f"no problems: {settings.listen} to {settings.upstream_url}, {routes}, sessions in {store}")
    return True
